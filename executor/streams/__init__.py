"""The Redis streams adapter: everything that speaks to the server.

`channel` is the only module that imports redis; `scripts` loads the .lua files; `ingress`, `lane`, `upkeep` and
`caller` are what a dispatcher, a worker, a janitor and a client may do, one typed function per transition.
"""
