"""Tells a webhook when nightlies begin to fail, and when they are well again.

The message is Slack's, which others understand too: https://docs.slack.dev/messaging/sending-messages-using-incoming-webhooks
The address is a secret, and whoever has it can post: it goes nowhere but into the request. That includes the words of
``requests``, whose errors hold the path.
"""

from __future__ import annotations

import datetime as dt
import html
import socket
from typing import TYPE_CHECKING

import requests

from build.host import clock
from build.host.background import tail
from build.host.secrets import redacted
from build.host.timestamps import moment
from build.nightly import nightlog, record
from build.nightly.record import FAIL, KILLED, PASS, RUNNING

if TYPE_CHECKING:
    from build.context import Context
    from build.nightly.record import Record

_TIMEOUT_S = 10
_LINES = 20
# Compiling everything takes hours; by the next night it is over.
_STUCK = dt.timedelta(hours=20)


def tell(context: Context, ended: Record) -> None:
    """Say that a nightly failed, or that it is the first good one after a bad one. Never raises.

    Args:
        context: Settings, console, and the records of earlier nightlies.
        ended: The record of this one, which is already kept.
    """
    if text := _text(context, ended):
        _send(context, text)


def tell_stuck(context: Context) -> None:
    """Say that a nightly could not start because one of long ago still runs. Never raises."""
    running = [one for one in record.recall(context.folders.nightlies) if one.verdict == RUNNING]
    if running and clock.now() - moment(running[0].started) > _STUCK:
        stuck = running[0]
        where = f"nightly ({stuck.flavor}) on {socket.gethostname()}"
        _send(context, f"{where} is stuck: {stuck.owner} runs since {stuck.started}")


def _send(context: Context, text: str) -> None:
    address = _address(context)
    if address and (problem := _post(address, text)):
        context.console.warn(f"the webhook was not told: {problem}")


def _address(context: Context) -> str | None:
    settings = context.settings
    if settings.notify_url:
        return settings.notify_url.get_secret_value()
    if settings.notify_url_file is None:
        return None
    try:
        return settings.notify_url_file.expanduser().read_text(encoding="utf-8").strip()
    except (OSError, ValueError) as error:
        context.console.warn(
            f"the webhook's address cannot be read from {settings.notify_url_file}: {type(error).__name__}"
        )
        return None


def _text(context: Context, ended: Record) -> str | None:
    where = f"nightly ({ended.flavor}) on {socket.gethostname()}"
    commit = f", commit {ended.commit}" if ended.commit else ""
    if ended.verdict == FAIL and ended.error:
        cause = f"error[{ended.error['category']}]: {ended.error['what']}\ntry: {ended.error['hint']}"
        end = "\n".join(redacted(line) for line in tail(nightlog.PATH, lines=_LINES))
        kept = "the base of before stays in use"
        return f"{where} failed{commit}; {kept}\n{cause}\n```\n{end}\n```"
    if ended.verdict == PASS and _was_bad(context, ended):
        return f"{where} is well again{commit}"
    return None


def _was_bad(context: Context, ended: Record) -> bool:
    """Whether the nightly of its flavor before this one failed; those that somebody stopped do not count."""
    known = record.recall(context.folders.nightlies, flavor=ended.flavor)
    before = [one for one in known if (one.started, one.owner) != (ended.started, ended.owner)]
    judged = [one.verdict for one in before if one.verdict in {PASS, FAIL, KILLED}]
    return judged[:1] not in ([], [PASS])


def _post(address: str, text: str) -> str | None:
    """Post a message; what went wrong, in words without the address, or None."""
    # The three characters that Slack gives a meaning.
    message = {"text": html.escape(text, quote=False)}
    try:
        # The answer's body is not waited for, and nobody is told by a redirection where to post instead.
        with requests.post(address, json=message, timeout=_TIMEOUT_S, stream=True, allow_redirects=False) as answer:
            return None if answer.ok and not answer.is_redirect else f"it answers {answer.status_code}"
    except requests.RequestException as error:
        return type(error).__name__
    except (ValueError, UnicodeError):
        # An address that is none; its errors quote it.
        return "its address is none"
