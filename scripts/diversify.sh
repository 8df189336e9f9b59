#!/bin/sh
# Data diversification on Multi30k English-German (Nguyen et al., 2020), from the raw files to the model: three models
# translate the training text forwards and one backwards, another learns from all of it, and goes on with the real pairs.
# Stopped, the same command goes on.
#
#   scripts/diversify.sh DIR [KEY=VALUE ...]     DIR has the raw files; KEY=VALUE is for all trainings, such as
#                                                runtime.threads=1 runtime.precision=bf16
set -eu
[ $# -ge 1 ] || { echo "diversify.sh: name the folder with the raw files of Multi30k" >&2; exit 2; }
root=$1
shift

translated() {
    [ -d "data/diversified/$1" ] ||
        transformer-distill checkpoint="saved/$1/best" output="data/diversified/$1" data_root="$root" back="$2" \
            decoding.penalty.alpha=1.0
}

# With the schedule and positions that the figures of docs/experiments.md were made with.
for seed in 1 2 3; do
    transformer-train experiment=multi30k_en_de data.root="$root" "$@" \
        schedule=cosine model/position=sinusoidal name="forward_$seed" seed=$seed resume=true 'final.splits=[]'
    translated "forward_$seed" false
done
transformer-train experiment=multi30k_de_en data.root="$root" "$@" \
    schedule=cosine model/position=sinusoidal name=backward resume=true 'final.splits=[]'
translated backward true
transformer-train experiment=multi30k_en_de_diversified data.corpora.real.root="$root" "$@" resume=true 'final.splits=[]'
exec transformer-train experiment=multi30k_en_de_tuned data.root="$root" "$@" resume=true
