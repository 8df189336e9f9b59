"""Benchmarks: train and decode, beside peers, and prepare, of a large corpus; see `benchmark.py COMMAND --help`.

Peers run when they are installed: pip install ctranslate2 transformers.
"""

import argparse
import os

import benchmarks.contestant
import benchmarks.decode
import benchmarks.learner
import benchmarks.prepare
import benchmarks.train


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
    train = commands.add_parser("train", help="target tokens a second, beside plain loops over other models")
    train.add_argument("overrides", nargs="*", help="of the training config, such as data=multi30k")
    train.add_argument("--sizes", nargs="+", default=["tiny", "small", "base"], help="of configs/model")
    train.add_argument("--steps", nargs="+", type=int, help="updates in a window, a number for each size")
    train.add_argument("--rounds", type=int, default=5, help="windows")
    train.add_argument("--batches", type=int, default=40, help="batches that are gone through, again and again")
    train.add_argument("--max-tokens", type=int, default=4096, help="of a batch, either side")
    train.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    train.add_argument("--precision", choices=benchmarks.train.DTYPES, default="fp32", help="of all of them")
    train.add_argument("--output", default="results/benchmark", help="folder")
    prepare = commands.add_parser("prepare", help="pairs a second and memory while a large corpus is prepared")
    prepare.add_argument("--pairs", type=int, nargs="+", default=[100_000, 1_000_000])
    prepare.add_argument("--folder", help="where the corpus is written and deleted again")
    prepare.add_argument("--output", default="results/benchmark", help="folder")
    prepared = commands.add_parser("prepared", help="prepares once, started by the others")
    prepared.add_argument("folder")
    learner = commands.add_parser("learner", help="one learner, started by the others")
    for name in ("name", "folder", "size"):
        learner.add_argument(name)
    learner.add_argument("threads", type=int)
    learner.add_argument("precision")
    contestant = commands.add_parser("contestant", help="one contestant, started by the others")
    for name in ("name", "checkpoint", "folder"):
        contestant.add_argument(name)
    contestant.add_argument("threads", type=int)
    arguments = parser.parse_args()
    if arguments.command == "decode":
        benchmarks.decode.main(arguments)
    elif arguments.command == "train":
        arguments.steps = arguments.steps or [benchmarks.train.STEPS.get(size, 1) for size in arguments.sizes]
        if len(arguments.steps) != len(arguments.sizes):
            train.error(f"--steps has {len(arguments.steps)} numbers, --sizes {len(arguments.sizes)}; give as many")
        benchmarks.train.main(arguments)
    elif arguments.command == "prepare":
        benchmarks.prepare.main(arguments)
    elif arguments.command == "prepared":
        benchmarks.prepare.child(arguments.folder)
    elif arguments.command == "learner":
        benchmarks.learner.main(
            arguments.name, arguments.folder, arguments.size, arguments.threads, arguments.precision
        )
    else:
        benchmarks.contestant.main(arguments.name, arguments.checkpoint, arguments.folder, arguments.threads)


if __name__ == "__main__":
    main()
