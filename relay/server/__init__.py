"""server: the processes. Builds every object once, owns every task and signal, decides nothing about mail.

`serve` is the whole of it: one worker in this process, or a supervisor with several (`supervisor`). A worker is a
complete relay (`worker`); what must be common to the machine goes over the `switchboard`.
"""
