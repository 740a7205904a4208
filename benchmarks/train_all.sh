#!/usr/bin/env bash
# Train and prune the zoo's entries by plain `zoo` commands, each finished before the next begins.
#
#   bash benchmarks/train_all.sh --data-dir DIR              for a GPU: 1024 points, the recipes' epochs
#   bash benchmarks/train_all.sh --data-dir DIR --small      for two CPU cores: 512 points, few epochs
#   bash benchmarks/train_all.sh --data-dir DIR --seed 1     the ModelNet10 family once more, with another seed
#
#   --dry-run    print the commands and run nothing
#
# DIR (or ZOO_DATA_DIR) holds ModelNet10 (modelnet10_ply_hdf5_...), Imagenette and CIFAR-10 (JPEG) under their usual
# names. Entries go to ZOO_HOME. Stopped or killed, it goes on with the same command: an entry that the same command
# made is left as it is, and a half trained one goes on at its last epoch. The full size replaces entries of the small
# one, those that the package ships too; --small replaces nothing. Seeds other than 0 have the seed in their names:
# dgcnn-0.75x-seed1.modelnet10. The full size loads data in as many processes as there are processors but one, 8 at
# most. At the end it prints the lines that bring what the package does not ship into mirror/ and the README of this clone,
# other seeds into benchmarks/seeds/, where table3.py finds them. What a mirror has that the same command made is
# downloaded: ZOO_MIRROR=benchmarks/seeds makes what is missing of another seed.
# PYTHON names the interpreter (default: python); the command zoo on the PATH has to be of the same environment.
set -uo pipefail
folder=$(cd "$(dirname "$0")" && pwd)
python=${PYTHON:-python}
size=full seed=0 dry=
while (($#)); do
    case $1 in
    --small) size=small ;;
    --dry-run) dry=1 ;;
    --seed) seed=${2:?--seed needs a number} && shift ;;
    --data-dir) export ZOO_DATA_DIR=${2:?--data-dir needs a folder} && shift ;;
    *) echo "unknown option $1: --small, --seed N, --data-dir DIR, --dry-run" >&2 && exit 2 ;;
    esac
    shift
done
if [[ ! $seed =~ ^(0|[1-9][0-9]{0,14})$ ]]; then # 08 would be octal, and longer ones are none of bash's
    echo "--seed takes a whole number from 0 up, not $seed" >&2 && exit 2
fi
if [[ -z $dry ]] && ! command -v zoo >/dev/null; then
    echo "there is no command zoo on the PATH: activate the environment that the package is installed in" >&2 && exit 2
fi

child= stopped= there=() failed=() other=() workers=()
if [[ $size == full ]]; then # --small leaves the two cores to the training
    cores=$(getconf _NPROCESSORS_ONLN)
    workers=(--workers $((cores > 8 ? 8 : cores - 1))) # stands on no card: the network is the same
fi
stop() { # the command saves its state and ends; nothing else begins
    stopped=1
    [[ -z $child ]] || kill -TERM "$child" 2>/dev/null
}
trap stop INT TERM HUP

run() {
    set -m # a group of its own: Ctrl-C reaches it through stop alone, once
    "$@" &
    child=$!
    set +m
    [[ -z $stopped ]] || stop # the signal came before there was a child
    local status=0
    wait "$child" || status=$?
    while kill -0 "$child" 2>/dev/null; do # a signal ends the wait before the command
        status=0
        wait "$child" || status=$?
    done
    child=
    return "$status"
}

# make NAME COMMAND...: the entry, unless it is there
make() {
    local name=$1 state=1 by=
    shift
    [[ -z $stopped ]] || exit 143
    if [[ -n $dry ]]; then
        echo "$*" ${workers[@]+"${workers[@]}"}
        return
    fi
    if [[ $2 == reprune && " ${failed[*]-} " == *" $3 "* ]]; then # an older entry of that name may be there
        failed+=("$name") && return
    elif [[ $2 == reprune && " ${other[*]-} " == *" $3 "* ]]; then
        echo "== $name is left out: $3 is not the one that this list makes" && return
    fi
    by=$("$python" "$folder/made.py" "$name" "$@") && state=0 || state=$?
    local replace=()
    case $state in
    0) there+=("$name") && echo "== $name is there" && return ;;
    4) ;;
    3 | 5)
        if [[ $size == small ]]; then
            other+=("$name") && echo "== $name is there, made by: $by" && return
        fi
        replace=(--overwrite)
        [[ $state == 3 ]] || replace+=(--out "$folder/../zoo/checkpoints") # what the package ships, in this clone
        ;;
    *) failed+=("$name") && return ;;
    esac
    [[ -z $stopped ]] || exit 143 # it came while made.py ran
    echo "== $name: $*"
    run "$@" ${workers[@]+"${workers[@]}"} ${replace[@]+"${replace[@]}"} && there+=("$name") || failed+=("$name")
    [[ -z $stopped ]] || exit 143
}

# modelnet10 STEM COMMAND...: the same with the seed, in the name too unless it is 0
modelnet10() {
    local stem=$1
    shift
    if ((seed == 0)); then
        case $2 in
        train) make "$stem.modelnet10" "$@" ;;
        *) make "$stem.modelnet10" "$@" --name "$stem.modelnet10" ;;
        esac
    else
        make "$stem-seed$seed.modelnet10" "$@" --seed "$seed" --name "$stem-seed$seed.modelnet10"
    fi
}

if [[ $size == full ]]; then
    points=1024 dgcnn=250 pointnet=250 pointnet2=250 tuned=100
    images=128 resnet=30 resnet_tuned=150 vgg=160 vgg_tuned=100
else # on one core beside other work an epoch took: 0.75x DGCNN 157 to 485 s, PointNet 134 to 166, PointNet++ 739 to 834,
    # VGG-11 665 to 972, ResNet34's fine-tuning 129 to 160
    points=512 dgcnn=10 pointnet=10 pointnet2=4 tuned=8
    images=64 resnet=8 resnet_tuned=2 vgg=5 vgg_tuned=1
fi
clouds=(--dataset modelnet10 --points "$points")
parent=dgcnn$( ((seed == 0)) || echo "-seed$seed").modelnet10

# ModelNet10: the dense network, and what the combined method makes of it at the cost of the dense multipliers. Those are
# narrower in the EdgeConv layers alone, and so are the paper's pruned networks: in its Table 3 they have 1.24M to 1.49M
# parameters, of which those behind conv5, left whole, have 1.19M.
modelnet10 dgcnn zoo train dgcnn "${clouds[@]}" --epochs "$dgcnn" --half
macs=$("$python" "$folder/dense_macs.py" dgcnn 0.75 0.5 0.25 --classes 10 --shape "3,$points") || exit
for w in 0.75 0.5 0.25; do
    most=${macs%%$'\n'*} macs=${macs#*$'\n'}
    modelnet10 "dgcnn-pruned-${w}x" zoo reprune "$parent" --method combined --target-macs "$most" \
        --groups edge1,edge2,edge3,edge4 --finetune-epochs "$tuned" --half
done
# At a tenth of the MACs readers that are solved anew keep what fine-tuning would have to find again
modelnet10 dgcnn-pruned-0.25x-repaired zoo reprune "$parent" --method repaired --target-macs "$most" \
    --finetune-epochs "$tuned" --half
for w in 0.75 0.5 0.25; do
    modelnet10 "dgcnn-${w}x" zoo train dgcnn "${clouds[@]}" --epochs "$dgcnn" --width "$w" --half
done

# ResNet34 at the ratios of the paper's 2.20G and 1.90G, and VGG-11 at half of its MACs
if ((seed == 0)); then
    make resnet34.imagenette zoo train resnet34 --dataset imagenette --size "$images" --epochs "$resnet" --half
    for pair in 0.60:0.59 0.52:0.51; do # the part of the MACs, and the dense multiplier that costs no less
        name=resnet34-pruned-${pair#*:}x.imagenette
        make "$name" zoo reprune resnet34.imagenette --method repaired --target-macs "${pair%:*}" \
            --finetune-epochs "$resnet_tuned" --half --name "$name"
    done
    make vgg11.cifar10 zoo train vgg11 --dataset cifar10 --epochs "$vgg" --half
    make vgg11-pruned-0.71x.cifar10 zoo reprune vgg11.cifar10 --method repaired --target-macs 0.5 \
        --finetune-epochs "$vgg_tuned" --half --name vgg11-pruned-0.71x.cifar10
fi

# The other networks of the paper's Table 3
modelnet10 pointnet zoo train pointnet "${clouds[@]}" --epochs "$pointnet" --half
modelnet10 pointnet2 zoo train pointnet2 "${clouds[@]}" --epochs "$pointnet2" --half

# What the package does not ship is too large for it; other seeds are for table3.py alone.
mirror=mirror title="what is too large for the package comes into mirror/ and the README of this clone by"
if ((seed != 0)); then
    mirror=benchmarks/seeds title="table3.py of this clone finds other seeds in benchmarks/seeds/ after"
fi
if ((${#there[@]})) && names=$("$python" "$folder/made.py" --to-publish "$folder/../$mirror" "${there[@]}") &&
    [[ -n $names ]]; then
    echo "== $title"
    printf 'cd %q\n' "$(dirname "$folder")"
    echo "zoo publish $mirror $names --overwrite"
    ((seed != 0)) || echo "python benchmarks/readme_table.py"
fi
if ((${#failed[@]})); then
    echo "not made: ${failed[*]}" >&2
    exit 1
fi
