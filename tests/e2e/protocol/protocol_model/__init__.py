"""A small symbolic model of the session protocol, searched exhaustively against a hostile host.

`terms` has the algebra of messages and what the host can deduce; `protocol`, `device` and `owner`
the honest parties; `scenarios` what is agreed and what the host may set up instead; `host` its
moves; `properties` what must hold; `search` the search; `findings` what each binding is for.
docs/protocol.md says what is modelled and what is not.
"""
