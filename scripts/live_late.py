"""The case of live.py in which an interface comes late, and comes back."""

import re
import time

from live_net import await_, expect, send


def case(cases, cable, rate, settle_s):
    """An interface that comes after the start, is removed and made anew: it is waited for, and the
    accounts are exact."""
    config = ('[live]\nwait_for_interface = true\nring_mb = 4\n'
              '[service]\nmetrics = "127.0.0.1:9464"\nuser = "nobody"\n')
    ready = lambda: cases.net.run("b", "curl", "-s", "http://127.0.0.1:9464/readyz").strip()
    # The user that it becomes must reach the output.
    cases.work.chmod(0o755)
    waiting, flows = "waiting for interface vl", []
    for workers in (1, 2):
        live = cases.tool.live(
            interfaces=("vl",), workers=workers, config=config, bundle=cases.hasty
        )
        sent = 0
        for _ in range(3):
            await_(f"that it says `{waiting}`", lambda: waiting in ready(), 20)
            with cable(cases.net, "vk", "vl"):
                await_("that it is ready", lambda: ready() == "ready", 20)
                sent += send(
                    cases.net, cases.work / "plain.pcap", f"--pps={rate}", "--limit=3000",
                    interface="vk",
                )
                time.sleep(settle_s)
        await_(f"that it says `{waiting}`", lambda: waiting in ready(), 20)
        ended = live.stop()
        expect("the exit code", 0, ended.code)
        expect("frames received and dropped", (sent, 0), ended.balanced())
        expect(
            "times that the interface came", "3",
            re.search(r"(\d+) times the interface came", ended.said)[1],
        )
        ended.together(workers)
        flows.append(ended.flows)
    expect("flows with one worker and with two", {flows[0]}, set(flows))
    return (
        f"three times an interface came and went: {sent} frames sent, received and seen, {flows[0]}"
        " flows"
    )
