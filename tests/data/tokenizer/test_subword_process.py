import subprocess
import sys

PROGRAM = """
import io, sentencepiece
from transformer.data.tokenizer.subword import SubwordTokenizer
model = io.BytesIO()
lines = ["the friendly grandmother explains the school book", "der freundliche Hund liest das Schulbuch"] * 50
sentencepiece.SentencePieceTrainer.train(
    sentence_iterator=iter(lines), model_writer=model, vocab_size=330, model_type="bpe", byte_fallback=True,
    pad_id=0, unk_id=1, bos_id=2, eos_id=3, minloglevel=2,
)
tokenizer = SubwordTokenizer(model.getvalue(), lowercase=False, sampling=0.3)
print(tokenizer.sample(tokenizer.encode_lines(lines), seed=7))
"""


def test_a_seed_gives_the_same_segmentations_in_every_process():
    outputs = {
        subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True).stdout
        for _ in range(2)
    }
    assert len(outputs) == 1
    assert len(outputs.pop()) > 1000
