#!/bin/bash
# Writes seeds and runs each fuzz target in turn: fuzz/run.sh [SECONDS] [TARGET...]. Ends at the first that finds something.
set -euo pipefail
cd "$(dirname "$0")/.."
export RUSTC_BOOTSTRAP=1 # cargo-fuzz wants nightly's options of a stable compiler
seconds=${1:-600}
shift || true
targets=("$@")
[ $# -gt 0 ] || targets=(http data_json data_table data_folder data_shards results pickle images)
fixtures=tests/fixtures
[ ! -w /dev/shm ] || export TMPDIR=/dev/shm # most targets write a file for each input

# Writes standard input to a seed of a target.
seed() {
  mkdir -p "fuzz/corpus/$1"
  cat >"fuzz/corpus/$1/$2"
}

# A shard with these files, as the data_shards target wants it.
shard() {
  printf 0
  tar -c -C "$1" .
}

seeds_http() {
  printf '0POST /caption?seed=1 HTTP/1.1\r\nContent-Length: 1\r\n\r\nx' | seed http connection
  printf '0GET /health HTTP/1.1\r\n\r\nGET /metrics HTTP/1.1\r\nConnection: close\r\n\r\n' | seed http two
  printf '0POST /caption HTTP/1.1\r\nTransfer-Encoding: chunked\r\nExpect: 100-continue\r\n\r\n1\r\nx\r\n0\r\n\r\n' | seed http chunked
  printf '0OPTIONS /caption HTTP/1.1\r\nOrigin: http://a\r\nAccess-Control-Request-Method: POST\r\n\r\n' | seed http options
  { printf '1decode=beam&beam_size=2\n'; cat $fixtures/preprocess/one.png; } | seed http image
  printf '2num_captions=2\n--xyz\r\nContent-Disposition: form-data; name="image"; filename="a.png"\r\n\r\nx\r\n--xyz\r\nContent-Disposition: form-data; name="seed"\r\n\r\n1\r\n--xyz--\r\n' | seed http form
  printf '3\n{"images":["data:;base64,eA==","eA=="],"seed":1,"temperature":0.5,"top_k":2,"prompt":"a"}' | seed http json
  { printf '3\n{"image":"data:image/png;base64,'; base64 -w0 $fixtures/preprocess/one.png; printf '"}'; } | seed http json_image
}

seeds_data_json() {
  printf '0{"images":[{"id":1,"file_name":"a.png"}],"annotations":[{"id":1,"image_id":1,"caption":"A dog."}]}' | seed data_json coco
  printf '0{"dataset":"x","images":[{"filepath":"v","filename":"a.png","split":"train","cocoid":1,"sentences":[{"raw":"A dog.","tokens":["a"]}]}]}' | seed data_json karpathy
  printf '0[{"image":"a.png","caption":["A dog.","Two."]},{"file_name":"b.png","text":"c"}]' | seed data_json rows
  printf '1{"image":"a.png","caption":"A dog."}\n\n{"image":"b.png","caption":null}\n' | seed data_json lines
  printf '2{"image_id":"a.png","captions":["A dog."]}\n' | seed data_json text
  printf '0\xef\xbb\xbf{"a.png":["A dog."],"b.png":"Two."}' | seed data_json table
}

seeds_data_table() {
  printf '0image,caption\na.png,"A dog, ""x"""\nb.png,Two, three.\n' | seed data_table comma
  printf '0image;caption\r\na.png;A "stray quote\r\nb.png;"Two\nlines"\r\n' | seed data_table semicolon
  printf '1image\tcaption\na.png\tA dog.\n' | seed data_table tab
  printf '2a.png#0\tA dog.\na.png#1\tTwo.\n' | seed data_table flickr
  printf '2A dog.\nTwo cats.\n' | seed data_table captions
  printf '0\xff\xfei\0m\0a\0g\0e\0,\0c\0a\0p\0t\0i\0o\0n\0\n\0a\0,\0b\0\n\0' | seed data_table wide
  printf '0image_name| comment_number| comment\na.png| 0| A dog.\n' | seed data_table flickr30k
}

seeds_data_folder() {
  printf 'A dog.\nTwo.\n\xff{"file_name":"b.jpg","text":"A cat."}\n\xfffile_name,text\nc.gif,"A fox"\n\xffA caption.' | seed data_folder all
}

seeds_data_shards() {
  local folder
  folder=$(mktemp -d)
  cp $fixtures/preprocess/one.png "$folder/a.png"
  printf 'A dog.' >"$folder/a.txt"
  printf '{"caption":"Two."}' >"$folder/b.json"
  cp $fixtures/preprocess/one.png "$folder/b.png"
  shard "$folder" | seed data_shards tar
  { printf 0; tar -cz -C "$folder" .; } | seed data_shards gzip
  { printf 0; tar -c --format=posix -C "$folder" a.png a.txt; } | seed data_shards pax
  mv "$folder/a.txt" "$folder/$(printf 'long%.0s' {1..40}).txt"
  { printf 0; tar -c --format=gnu -C "$folder" .; } | seed data_shards long
  if command -v zstd >/dev/null; then { printf 0; tar -c -C "$folder" . | zstd; } | seed data_shards zstd; fi
  rm -r "$folder"
}

seeds_results() {
  printf '0[{"image_id":1,"caption":"a"},{"image_id":"x","caption":"b"},{"image_id":3.0,"caption":"c"}]' | seed results coco
  printf '1{"image":"photos/a/1.png","caption":"a"}\n{"image":"3.png","error":"is damaged"}\n' | seed results lines
  printf '1{"image":"a/1.png","captions":[{"caption":"a","score":-1.0}]}\n' | seed results several
  printf '2image,rank,caption,error\na/1.png,0,a,\n3.png,,,damaged\n' | seed results table
  printf '3{"image_id":1,"caption":"a"}\n' | seed results text
  printf '0{"images":[{"id":1,"file_name":"1.png"}],"annotations":[{"id":1,"image_id":1,"caption":"a"}]}' | seed results references
}

seeds_pickle() {
  mkdir -p fuzz/corpus/pickle
  cp $fixtures/convert/{evil.pt,training.pkl,captioner_linear.pt} fuzz/corpus/pickle/
}

seeds_images() {
  mkdir -p fuzz/corpus/images
  find $fixtures/preprocess -maxdepth 1 -type f ! -name '*.json' -exec cp {} fuzz/corpus/images/ \;
}

for target in "${targets[@]}"; do
  "seeds_$target"
  case $target in
    images | http | data_shards) most=40000 ;;
    pickle) most=120000 ;;
    *) most=4000 ;;
  esac
  echo "$target"
  cargo fuzz run "$target" -- -max_total_time="$seconds" -max_len=$most -rss_limit_mb=3000 -malloc_limit_mb=2500 -timeout=60 -print_final_stats=1
done
