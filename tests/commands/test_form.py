"""The forms of a translated line; JSON is read back from the command in test_translate.py."""

from transformer.commands.form import as_nbest, as_text
from transformer.decoding.translator import Translation


def test_the_form_of_a_line() -> None:
    found = [Translation("eins", ["x"], -1.5, -0.75), Translation("zwei", ["y"], -2.0, -1.0)]
    assert as_text((7, "one", found, [])) == "eins\n"
    assert as_nbest((7, "one", found, [])) == "7\t-0.7500\t-1.5000\teins\n7\t-1.0000\t-2.0000\tzwei\n"
