"""Benchmarks beside peers: python scripts/benchmark.py decode --checkpoint FOLDER --src FILE [--ref FILE].

Peers run when they are installed: pip install ctranslate2 transformers.
"""

import argparse
import os

import benchmarks.contestant
import benchmarks.decode


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    decode = commands.add_parser("decode", help="sentences a second, beside CTranslate2 and Hugging Face")
    decode.add_argument("--checkpoint", required=True, help="a folder such as saved/run/best")
    decode.add_argument("--src", required=True, help="source text")
    decode.add_argument("--ref", help="reference text, for BLEU")
    decode.add_argument("--n", type=int, default=1000, help="sentences, the first of the file")
    decode.add_argument("--beam", type=int, default=5)
    decode.add_argument("--batch", type=int, default=128, help="sentences decoded at once")
    decode.add_argument("--forced", type=int, default=15, help="tokens of every translation in the forced mode")
    decode.add_argument("--no-free", action="store_true", help="leave out free decoding")
    decode.add_argument("--rounds", type=int, default=5)
    decode.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    decode.add_argument("--output", default="results/benchmark", help="folder")
    contestant = commands.add_parser("contestant", help="one contestant, started by the others")
    for name in ("name", "checkpoint", "folder"):
        contestant.add_argument(name)
    contestant.add_argument("threads", type=int)
    arguments = parser.parse_args()
    if arguments.command == "decode":
        benchmarks.decode.main(arguments)
    else:
        benchmarks.contestant.main(arguments.name, arguments.checkpoint, arguments.folder, arguments.threads)


if __name__ == "__main__":
    main()
