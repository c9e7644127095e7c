# shellcheck shell=bash
# A cluster of kind with the builtin stack, beside kind alone: a part of ci/bench. Sourced, not run.
# Uses of ci/bench: program, work, promise, milliseconds, median.

# kind_alone, kind_with_stack: one cluster, from the command until it is ready, in milliseconds; it is deleted again.
kind_alone() {
  milliseconds kind create cluster --name "bench-$$" --wait 120s --kubeconfig "$work/kind-alone"
  kind delete cluster --name "bench-$$" --kubeconfig "$work/kind-alone" >/dev/null 2>&1
}
kind_with_stack() {
  milliseconds "$program" create cluster a8s -p kind -c "bench-$$" --stack builtin --cluster-nr-of-nodes 1 --yes
  "$program" delete cluster a8s -p kind -c "bench-$$" --yes >/dev/null 2>&1
}

measure_kind() {
  have docker && have kind || die "--part kind wants docker and kind"
  local round alone=() ours=()
  for round in 1 2 3; do
    alone+=("$(kind_alone)")
    ours+=("$(kind_with_stack)")
  done
  local theirs mine
  theirs=$(median "${alone[@]}") mine=$(median "${ours[@]}")
  promise "create cluster a8s -p kind --stack builtin above kind alone" \
    "$(awk -v a="$mine" -v b="$theirs" 'BEGIN { printf "%.1f", (a - b) / 1000 }')" '<=' 10 s \
    "medians of $round: $mine ms, kind create cluster --wait $theirs ms"
}
