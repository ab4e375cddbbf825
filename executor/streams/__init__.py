"""The Redis streams adapter: everything that speaks to the server.

`channel` is the only module that imports redis; `scripts` loads the .lua files; `ingress`, `lane`, `upkeep`,
`caller` and `dead` are what a dispatcher, a worker, a janitor, a client and an operator may do, one typed function per
transition.
"""
