#!/bin/bash
# The product on photographs: encoders, GPT-2 and captioners trained from nothing on Flickr8k, and scored on its test part.
#
#   benches/flickr8k.sh FLICKR TINY_IMAGENET VOCABULARY
#
# FLICKR         images/, Flickr8k.token.txt and Flickr_8k.{train,dev,test}Images.txt
# TINY_IMAGENET  tiny-imagenet-200 as it is distributed: train/<class>/images/*.JPEG, val/val_annotations.txt
# VOCABULARY     GPT-2's vocab.json and merges.txt
#
# Writes model/, artifacts/ and the tables flickr8k-*.md into the current folder. Two hours on two cores.
# CLIPCAP names the program; EPOCHS_* change the budget.
set -euo pipefail
flickr=${1:?a folder with Flickr8k} tiny=${2:?a folder with Tiny ImageNet} vocabulary=${3:?a folder with a vocabulary}
clipcap=${CLIPCAP:-clipcap}
lists=$flickr/Flickr_8k.trainImages.txt,$flickr/Flickr_8k.devImages.txt,$flickr/Flickr_8k.testImages.txt
data=(--data "$flickr/Flickr8k.token.txt" --images "$flickr/images")

# A folder a class, for training and for testing, as `--data` reads them.
classes=dataset/tiny-imagenet
if [ ! -d "$classes" ]; then
  mkdir -p "$classes.part/train" "$classes.part/test"
  for class in "$tiny"/train/*/; do
    ln -s "$(realpath "$class/images")" "$classes.part/train/$(basename "$class")"
    mkdir -p "$classes.part/test/$(basename "$class")"
  done
  while read -r name class _; do
    ln -s "$(realpath "$tiny/val/images/$name")" "$classes.part/test/$class/$name"
  done <"$tiny/val/val_annotations.txt"
  mv "$classes.part" "$classes"
fi

[ -f model/tiny-resnet18/config.json ] || "$clipcap" pretrain resnet18 --data "$classes" --image-size 64 --width 32 \
  --stem imagenet --batch-size 128 --epochs "${EPOCHS_RESNET:-10}" --output model/tiny-resnet18 --run tiny-resnet18
[ -f model/flickr8k/gpt2.bpk ] || "$clipcap" pretrain gpt2 "${data[@]}" --shares "$lists" --vocabulary "$vocabulary" \
  --width 128 --epochs "${EPOCHS_GPT2:-4}" --output model/flickr8k --run flickr8k-gpt2
[ -f model/flickr8k/clip.bpk ] || "$clipcap" pretrain clip "${data[@]}" --shares "$lists" --width 192 --image-size 80 \
  --patch-size 10 --embedding 256 --epochs "${EPOCHS_CLIP:-12}" --output model/flickr8k --run flickr8k-clip

# A captioner on an encoder: mapper and GPT-2 together.
captioner() {
  local run=$1
  shift
  [ -f "artifacts/$run/best/config.json" ] || "$clipcap" train --model model/flickr8k "$@" "${data[@]}" --shares "$lists" \
    --prefix-length 10 --clip-length 10 --layers 4 --captions one --learning-rate 5e-4 --warmup-steps 50 \
    --decay cosine --epochs "${EPOCHS_TRAIN:-12}" --run "$run"
  "$clipcap" evaluate --baselines --model "$run" --decode beam "${data[@]}" \
    --markdown "flickr8k-$run.md" --output "artifacts/$run"
}
captioner flickr8k-resnet18 --encoder model/tiny-resnet18
captioner flickr8k-clip-captioner
