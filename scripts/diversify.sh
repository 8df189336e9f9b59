#!/bin/sh
# Data diversification on Multi30k English-German (Nguyen et al., 2020), from the raw files to the model: two models
# translate the training text forwards, alone and together, and one backwards; one of the two goes on with all of it, and
# then once more with tokens cut off. Stopped, the same command goes on.
#
#   [SEEDS="1 2 3"] scripts/diversify.sh DIR [KEY=VALUE ...]
#
# DIR has the raw files; KEY=VALUE is for all trainings, such as runtime.threads=1 runtime.precision=bf16. For each of
# SEEDS (1 if not given) the model of that seed goes on from saved/forward_SEED/best to saved/student_SEED/best and from
# there to saved/multi30k_en_de_SEED/best, which is the result.
set -eu
[ $# -ge 1 ] || { echo "diversify.sh: name the folder with the raw files of Multi30k" >&2; exit 2; }
root=$1
shift

teacher() {  # SEED [KEY=VALUE ...]
    seed=$1
    shift
    transformer-train experiment=multi30k_en_de_teacher data.root="$root" "$@" \
        name="forward_$seed" seed="$seed" resume=true 'final.splits=[]'
}

translated() {  # FOLDER CHECKPOINTS BACK
    [ -d "data/diversified/$1" ] ||
        transformer-distill checkpoint="$2" output="data/diversified/$1" data_root="$root" back="$3" \
            decoding.penalty.alpha=1.0
}

for n in 1 2; do
    teacher $n "$@"
    translated "forward_$n" "saved/forward_$n/best" false
done
translated together '[saved/forward_1/best,saved/forward_2/best]' false
transformer-train experiment=multi30k_de_en data.root="$root" "$@" name=backward resume=true 'final.splits=[]'
translated backward saved/backward/best true
for n in ${SEEDS:-1}; do
    case $n in 1 | 2) ;; *) teacher "$n" "$@" ;; esac
    transformer-train experiment=multi30k_en_de_student data.corpora.real.root="$root" "$@" \
        warm_start.checkpoint="saved/forward_$n/best" name="student_$n" seed="$n" resume=true 'final.splits=[]'
    transformer-train experiment=multi30k_en_de data.corpora.real.root="$root" "$@" \
        warm_start.checkpoint="saved/student_$n/best" name="multi30k_en_de_$n" seed="$n" resume=true
done
