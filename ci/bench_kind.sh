# shellcheck shell=bash
# A cluster of kind with the builtin stack, beside kind alone: a part of ci/bench. Sourced, not run.
# Uses of ci/bench: program, work, kind_config, promise, milliseconds, median.

# kind_alone NODES, kind_with_stack NODES: one cluster of one control plane and else workers, from the command until it is
# ready, in milliseconds; it is deleted again. (kind waits for the control plane alone; the stack runs on workers, too.)
kind_alone() {
  local node
  {
    if [ -n "$kind_config" ]; then cat "$kind_config"; else printf 'kind: Cluster\napiVersion: kind.x-k8s.io/v1alpha4\n'; fi
    # The file may end without a line end.
    printf '\nnodes:\n- role: control-plane\n'
    for ((node = 1; node < $1; node++)); do say '- role: worker'; done
  } >"$work/kind.yaml"
  milliseconds kind create cluster --name "bench-$$" --wait 120s --config "$work/kind.yaml" --kubeconfig "$work/kind-alone"
  kind delete cluster --name "bench-$$" --kubeconfig "$work/kind-alone" >/dev/null 2>&1
}
kind_with_stack() {
  milliseconds "$program" create cluster a8s -p kind -c "bench-$$" --stack builtin --cluster-nr-of-nodes "$1" \
    ${kind_config:+--kind-config "$kind_config"} --yes
  "$program" delete cluster a8s -p kind -c "bench-$$" --yes >/dev/null 2>&1
}

measure_kind() {
  have docker && have kind || die "--part kind wants docker and kind"
  local nodes round alone ours theirs mine
  for nodes in 1 3; do
    alone=() ours=()
    for round in 1 2 3; do
      alone+=("$(kind_alone "$nodes")")
      ours+=("$(kind_with_stack "$nodes")")
    done
    theirs=$(median "${alone[@]}") mine=$(median "${ours[@]}")
    promise "create cluster a8s -p kind above kind alone, nodes: $nodes" \
      "$(awk -v a="$mine" -v b="$theirs" 'BEGIN { printf "%.1f", (a - b) / 1000 }')" '<=' 10 s \
      "builtin stack, medians of $round: $mine ms, kind create cluster --wait $theirs ms"
  done
}
