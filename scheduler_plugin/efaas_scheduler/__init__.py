"""The scheduler's Python half: an extender that tells kube-scheduler where session pods may and should go.

kube-scheduler does what it does for every pod; for pods that ask for a session slot it also asks this
process, over HTTP, which nodes are out of the question (`filter`) and which are best (`prioritize`). From the
bottom up:

- `wire`: the messages of the extender's contract.
- `reading`: what Kubernetes objects say, as the core's dataclasses.
- `state`: everything known, kept up to date by `handle` of watch events; no clock, no network.
- `predictions`, `standing`: pods on their way to a node; who holds and used how much.
- `decide`: the answers, by `efaas.core.placement`, `efaas.core.fleet` and `efaas.core.precedence` alone.
- `connection`, `watch`, `wake`: the API server: how it is reached, what it reports, and the one thing that
  is written.
- `server`, `metrics`, `log`, `configuration`, `serve`, `cli`: the process around it.
"""
