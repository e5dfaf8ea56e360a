"""Worker processes: every run happens in them, so that the notebook and the page stay responsive, Stop always works,
and a crash takes nothing else along.

    launch      starts a process, from a forkserver that has torch loaded already
    interrupts  keeps Ctrl-C from them
    folder      where a run keeps what lasts as long as it does
    entry       what the process runs: it trains, and sends what happened
    channel     how events travel: in batches, and never holding up the training
    failure     turns an exception or a dead process into a sentence that teaches
"""
