"""The command line: parses, calls one function of the Python API, prints."""

import sys
from collections.abc import Sequence


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; the return value is the exit code (see `pipcook_deploy.errors.EXIT_CODES`)."""
    import click

    from pipcook_deploy.cli.app import app
    from pipcook_deploy.cli.report import report_error
    from pipcook_deploy.errors import DeployError

    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        result = app.main(args=arguments, prog_name="pipcook-deploy", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        return 2
    except (click.Abort, KeyboardInterrupt):
        print("interrupted: nothing was left half-written", file=sys.stderr)  # noqa: T201
        return 130
    except DeployError as error:
        report_error(error, as_json="--json" in arguments)
        return error.exit_code
    return result if isinstance(result, int) else 0
