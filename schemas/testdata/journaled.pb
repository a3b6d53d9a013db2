
qstream.queue.acme.v1c"