"""submission: the client side. Sessions on ports 587 and 465 and on trusted listeners, up to the hand-over to
reception.

`session` is the protocol, without sockets; `server` feeds it; `auth`, `guessing` and `limits` decide who may;
`policy` decides who may send as whom; `listener`, `tls` and `proxy` are the way in.
"""
