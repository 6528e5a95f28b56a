"""`efaas run` on one machine: placement, supervision of servers and runners, live view, report."""
