"""Notifications to a webhook when nightlies fail and when they pass again.

The message has Slack's format: https://docs.slack.dev/messaging/sending-messages-using-incoming-webhooks
The address is a secret that allows posting, so it appears only in the request. Errors of ``requests`` contain its path
and are not shown.
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
# A complete compilation takes hours, but ends before the next night.
_STUCK = dt.timedelta(hours=20)


def tell(context: Context, ended: Record) -> None:
    """Report that a nightly failed, or passed after a failure. Never raises.

    Args:
        context: Settings, console, and the records of earlier nightlies.
        ended: The record of this nightly, already written.
    """
    if text := _text(context, ended):
        _send(context, text)


def tell_stuck(context: Context) -> None:
    """Report that a nightly could not start because an old one still runs. Never raises."""
    running = [one for one in record.recall(context.folders.nightlies) if one.verdict == RUNNING]
    if running and clock.now() - moment(running[0].started) > _STUCK:
        stuck = running[0]
        where = f"nightly ({stuck.flavor}) on {socket.gethostname()}"
        _send(context, f"{where} is stuck: {stuck.owner} has been running since {stuck.started}")


def _send(context: Context, text: str) -> None:
    address = _address(context)
    if address and (problem := _post(address, text)):
        context.console.warn(f"notification not sent: {problem}")


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
            f"the webhook's address is not readable from {settings.notify_url_file}: {type(error).__name__}"
        )
        return None


def _text(context: Context, ended: Record) -> str | None:
    where = f"nightly ({ended.flavor}) on {socket.gethostname()}"
    commit = f", commit {ended.commit}" if ended.commit else ""
    if ended.verdict == FAIL and ended.error:
        cause = f"error[{ended.error['category']}]: {ended.error['what']}\ntry: {ended.error['hint']}"
        end = "\n".join(redacted(line) for line in tail(nightlog.PATH, lines=_LINES))
        kept = "the previous base stays in use"
        return f"{where} failed{commit}; {kept}\n{cause}\n```\n{end}\n```"
    if ended.verdict == PASS and _was_bad(context, ended):
        return f"{where} passes again{commit}"
    return None


def _was_bad(context: Context, ended: Record) -> bool:
    """Return whether the flavor's previous nightly failed. Interrupted ones do not count."""
    known = record.recall(context.folders.nightlies, flavor=ended.flavor)
    before = [one for one in known if (one.started, one.owner) != (ended.started, ended.owner)]
    judged = [one.verdict for one in before if one.verdict in {PASS, FAIL, KILLED}]
    return judged[:1] not in ([], [PASS])


def _post(address: str, text: str) -> str | None:
    """Post a message. Return None, or the problem in words without the address."""
    # Slack requires &, < and > to be escaped.
    message = {"text": html.escape(text, quote=False)}
    try:
        # The response body is not read, and redirections are not followed.
        with requests.post(address, json=message, timeout=_TIMEOUT_S, stream=True, allow_redirects=False) as answer:
            return None if answer.ok and not answer.is_redirect else f"the webhook answered {answer.status_code}"
    except requests.RequestException as error:
        return type(error).__name__
    except (ValueError, UnicodeError):
        # These errors quote the address.
        return "the webhook's address is not a valid URL"
