"""The four special token ids and their spelling, the same for every tokenizer."""

PAD, UNK, BOS, EOS = 0, 1, 2, 3
TOKENS = ("<pad>", "<unk>", "<s>", "</s>")
