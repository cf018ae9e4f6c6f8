from pytest_nnopt.torch_backend.output_code import external_kernels, generated_kernels

CODE = """
aten = torch.ops.aten
{first} = async_compile.cpp_pybinding(['float*'], '''
void kernel() {{ {body}; }} // {first}
''')
def call(args):
    extern_kernels.mm(arg0, arg1, out=buf0)
    buf1 = torch.ops.aten.sort.stable(buf0, stable=False)
    buf2 = aten.cumsum.default(buf1)
    {first}(buf2)
"""


def code(name: str, body: str = "x = 1") -> str:
    return CODE.format(first=name, body=body)


def test_a_kernels_running_number_is_no_part_of_its_name() -> None:
    assert generated_kernels([code("cpp_fused_add_0")]) == generated_kernels([code("cpp_fused_add_7")])


def test_kernels_are_told_apart_by_content_and_counted() -> None:
    kernels = generated_kernels([code("cpp_fused_add_0"), code("cpp_fused_add_1"), code("cpp_fused_add_0", "x = 2")])
    assert sorted(kernels.values()) == [1, 2]
    assert all(name.startswith("cpp_fused_add-") for name in kernels)


def test_calls_into_libraries_are_counted_by_name() -> None:
    assert external_kernels([code("cpp_fused_add_0")] * 2) == {"aten.cumsum.default": 2, "aten.sort.stable": 2, "mm": 2}
