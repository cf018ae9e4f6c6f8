"""What is kept between runs: schema, file names, reading and atomic writing."""
