"""Groups of commands in which every error raised on purpose ends as sentences, without a traceback."""

from __future__ import annotations

import sys

import click

from efaas.errors import EfaasError, InputError, ManifestFaults

EXIT_FAILED = 1
EXIT_BAD_INPUT = 2


class CommandGroup(click.Group):
    """A group in which every error raised on purpose ends as sentences on stderr and an exit code."""

    def invoke(self, context: click.Context) -> object:
        """Run the command."""
        try:
            return super().invoke(context)
        except EfaasError as error:
            for fault in error.faults if isinstance(error, ManifestFaults) else (error,):
                click.echo(f"error: {fault}", err=True)
            context.exit(EXIT_BAD_INPUT if isinstance(error, InputError) else EXIT_FAILED)
        except BrokenPipeError:
            # Whoever read stdout has gone (`efaas devices | head`); there is nobody to tell.
            sys.stdout = None
            context.exit(EXIT_FAILED)
