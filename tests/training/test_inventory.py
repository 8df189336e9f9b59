from transformer.training.inventory import describe


def test_describe_counts_every_parameter_once(toy):
    model = toy.model()
    lines = describe(model).splitlines()
    counts = [int(line.rpartition(" ")[2].replace(",", "")) for line in lines]
    assert sum(counts) == model.n_parameters
    assert lines[0] == "  src_embedding: 160"
    assert not any("output" in line or "tgt_embedding" in line for line in lines)  # tied
