"""How a case is timed: blocks, calibration, warm-up and stopping, with clock and device behind protocols."""
