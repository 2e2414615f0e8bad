"""``manage.py demo``: a whole stack, real goals before your eyes, a killed worker, and nothing left behind."""

import contextlib
import json
import os
import signal
import threading
from typing import Any

import httpx
from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser
from rich.console import Console

from agentsys.infrastructure.demo.client import Client, RestFailed
from agentsys.infrastructure.demo.mishap import Mishap
from agentsys.infrastructure.demo.play import Act, play
from agentsys.infrastructure.demo.research import AGENT, Person, Research, researching
from agentsys.infrastructure.demo.scenes import scenes
from agentsys.infrastructure.demo.screen import Screen, brief
from agentsys.infrastructure.management.commands.up import add_stack_arguments, wanted_stack
from agentsys.infrastructure.processes import SetupFailed
from agentsys.infrastructure.supervisor import StopRequested, Supervisor
from agentsys.llm.names import OFFLINE


class Command(BaseCommand):
    help = "Start a stack, submit real goals by REST, show their plans moving, print the results, stop."
    requires_system_checks = []

    def add_arguments(self, parser: CommandParser) -> None:
        add_stack_arguments(parser)
        parser.add_argument("--model", default="", help="a language model (openai-chat:…) instead of the scripted one")
        parser.add_argument("--keep", action="store_true", help="leave the stack up until Ctrl-C")

    def handle(self, *_args: Any, **options: Any) -> None:
        self.console = Console()
        try:
            # The first goal reads the stack's own API description: its own address is let through.
            model = options["model"] or (settings.MODEL if settings.MODEL != OFFLINE else "")
            with (
                researching(wanted_stack(options, call_itself=True), model) as (wanted, research),
                Supervisor(wanted, self._say) as stack,
            ):
                self._say(stack.welcome())
                well = self._perform(stack, research)
                if options["keep"] and not stack.stop_asked:
                    self._say("the stack stays up until Ctrl-C")
                    stack.watch()
                self._say("stopping all; `make up` starts it again with these runs, at these addresses")
            self._say("stopped")
        except SetupFailed as error:
            raise CommandError(str(error)) from error
        except StopRequested:
            raise CommandError("stopped while starting") from None
        if not well:
            raise CommandError("not every goal succeeded")

    def _perform(self, stack: Supervisor, research: Research) -> bool:
        """Play in a thread of its own: this one goes on watching the processes."""
        address = stack.stack.address
        acts = [Act(scene) for scene in (*scenes(settings.BASE_DIR, address), research.scene(address))]
        results: list[bool] = []

        def perform() -> None:
            try:
                results.append(self._play(stack, acts, research))
            except (RestFailed, httpx.HTTPError) as error:
                self._say(f"the demo cannot go on: {error}")

        player = threading.Thread(target=perform, name="demo", daemon=True)
        player.start()
        stack.watch(until=lambda: not player.is_alive())
        player.join(timeout=5)
        return bool(results) and results[0]

    def _play(self, stack: Supervisor, acts: list[Act], research: Research) -> bool:
        client = Client(f"{stack.stack.address}/api/v1", stack.stack.username, stack.stack.password)
        client.put_agent(AGENT, research.agent())
        mishaps = [self._mishap(stack, client, act) for act in acts if act.scene.killed]
        looks = [*(mishap.look for mishap in mishaps), Person(client, acts[-1], self._say).look]
        with contextlib.closing(client), Screen(self.console, acts) as screen:

            def show() -> None:
                screen.show()
                for look in looks:
                    look()

            well = play(client, acts, show=show, go_on=lambda: not stack.stop_asked)
        if not all(mishap.survived for mishap in mishaps):
            self._say("\nno worker could be killed while it worked")
            well = False
        for received in research.received:
            self._say(f"\nreceived at {research.inbox}: {json.dumps(brief(received), ensure_ascii=False)}")
        for act in acts:
            self._tell_result(act, stack.stack.address)
        self._say(f"\nin Flower, a task for each attempt: {stack.stack.flower_address}/tasks")
        self._say(f"{sum(act.well for act in acts)} of {len(acts)} goals succeeded")
        return well

    def _mishap(self, stack: Supervisor, client: Client, act: Act) -> Mishap:
        return Mishap(client, act, lambda: _killed(stack, act.scene.killed), self._say)

    def _tell_result(self, act: Act, address: str) -> None:
        result = act.run.get("result") if act.well else act.run.get("error")
        self._say(f"\n{act.scene.title}: {act.run['status']}")
        self._say(json.dumps(brief(result), ensure_ascii=False, indent=2))
        self._say(f"in the admin: {address}/admin/runs/run/{act.run['id']}/change/")

    def _say(self, line: str) -> None:
        with contextlib.suppress(OSError):  # the terminal may be gone; the stack stops in order
            self.console.print(line, markup=False, highlight=False, soft_wrap=True)


def _killed(stack: Supervisor, name: str) -> tuple[str, int] | None:
    """SIGKILL for a process of the stack; None if there is none of this name just now."""
    pid = next((keeper.child.pid for keeper in stack.keepers if keeper.child.name == name), None)
    if pid is None:
        return None
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:  # it has ended by itself, and is being started again
        return None
    return name, pid
