"""The agent's status for people: aligned lines, times with how far away they are."""

from datetime import datetime

from birthmark_agent.status import Certificate, Report, Status


def identity_lines(status: Status) -> list[str]:
    """Return device id and operational certificate."""
    lines = [f"device       {status.device_id or '(not born yet)'}"]
    if status.certificate is None:
        return [*lines, "certificate  none"]
    return [*lines, *_certificate_lines("certificate", status.certificate, status.now)]


def _certificate_lines(title: str, certificate: Certificate, now: str) -> list[str]:
    ends = "EXPIRED" if certificate.expired else f"valid for {_span(now, certificate.not_after)}"
    return [
        f"{title:12} {certificate.serial}",
        f"{'':12} {certificate.not_before} to {certificate.not_after}, {ends} (slot {certificate.slot})",
    ]


def status_lines(status: Status) -> list[str]:
    """Return everything that `status` shows."""
    report = status.report
    lines = identity_lines(status)
    if status.spare is not None:
        lines += _certificate_lines("other slot", status.spare, status.now)
    lines.append(f"agent        {'runs, ' + report.phase if status.running else 'does not run'}")
    if status.running and report.broker:
        lines.append(f"broker       {report.broker}")
    if report.renewal_at and _is_of(report, status.certificate):
        why = f": {report.renewal_reason}" if report.renewal_reason else ""
        lines.append(f"renewal      {report.renewal_result} at {report.renewal_at}{why}")
    if status.command is not None:
        command = status.command
        why = f": {command.code}: {command.detail}" if command.code else ""
        untold = "" if command.reported or command.state == "taken" else " (the broker does not know yet)"
        lines.append(f"command      {command.job_id} {command.state}{why}{untold}")
    if status.running and report.applications:
        lines.append(f"applications {', '.join(report.applications)}")
    if report.hook_failure:
        lines.append(f"hook         {report.hook_failure}")
    if report.failure_at:
        title, state = ("failure     ", "") if report.failure_current else ("last failure", ", overcome")
        lines.append(f"{title} {report.failure_code} at {report.failure_at}{state}: {report.failure_reason}")
    lines.append(f"clock        {status.clock}, {status.now}")
    when = f" at {status.next_at} (in {_span(status.now, status.next_at)})" if status.next_at else ""
    lines.append(f"next         {status.next_action}{when}")
    return lines


def _is_of(report: Report, certificate: Certificate | None) -> bool:
    """Whether the last renewal is the story of the certificate that is shown: one got otherwise since then has none."""
    return not report.renewal_serial or (certificate is not None and certificate.serial == report.renewal_serial)


def _span(start: str, end: str) -> str:
    """Return the time between two stamps in the one or two units that matter."""
    seconds = (datetime.fromisoformat(end) - datetime.fromisoformat(start)).total_seconds()
    if seconds > 400 * 86_400 * 100:
        return "ever"
    for size, unit in ((86_400, "d"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{max(seconds, 0):.0f} s"
