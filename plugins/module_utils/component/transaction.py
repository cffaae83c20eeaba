# Copyright: (c) 2026, aistack.observability contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Making a plan true: stage, switch, ask; and back to the last proven generation when the answer doesn't come.

After a kill at any moment the intent on disk says where from and where to, and the next run goes back first.
"""
from __future__ import annotations

import errno
import os
import time

from . import files, health, host, release, unit
from .declaration import Declaration
from .errors import ComponentError, Refused
from .generations import Generation, Generations
from .plan import Plan
from .stage import Stage


class Transaction:
    """One run over one component."""

    def __init__(self, params: dict) -> None:
        self._declaration = Declaration(params)
        self._handed_over = params.get("handed_over") or {}
        self._generations = Generations(self._declaration.name)
        self._steps: list[str] = []
        self._recovered = False
        self._setback: ComponentError | None = None

    # -- entry points ----------------------------------------------------------------------------------------------

    def preview(self) -> dict:
        """The plan and its diff; nothing is touched."""
        with self._generations.lock(reading=True):
            plan = Plan(self._declaration, self._generations)
            result = self._result(plan, not plan.empty)
            needs = plan.declaration.program.needs() if plan.program_action in ("place", "mend") else []
            return dict(result, needs=needs)

    def carry_out(self) -> dict:
        """Make the declaration true, or leave the host as it was."""
        with self._generations.lock():
            try:
                self._recover()
                plan = Plan(self._declaration, self._generations)
                planned = {"plan": plan.show(), "diff": plan.diff()}
                if not plan.empty:
                    (self._remove if self._declaration.absent else self._replace)(plan)
                return dict(self._result(plan, self._recovered or not plan.empty), **planned)
            except ComponentError as error:
                if self._setback:
                    error.details.update({"before, %s" % key: value for key, value in self._setback.details.items()})
                    error.message += ". Before that: " + self._setback.message
                raise self._masked(error) from None

    def _result(self, plan: Plan, changed: bool) -> dict:
        proven = self._generations.proven()
        return {"changed": changed, "plan": plan.show(), "steps": list(self._steps), "diff": plan.diff(),
                "generation": proven.number if proven else None}

    def _step(self, text: str) -> None:
        self._steps.append(text)

    def _masked(self, error: ComponentError) -> ComponentError:
        """A checker or a journal may repeat a line of a secret; the user's screen must not."""
        secrets = set()
        for item in self._declaration.files:
            if item.secret:
                text = item.content.decode("utf-8", "replace")
                secrets.update(part.strip() for part in [text] + text.splitlines() if len(part.strip()) >= 4)
        for source in (self._declaration.answers, self._declaration.silence):
            password = (source.get("login") or {}).get("password")
            if password:
                secrets.add(password)

        def mask(text: str) -> str:
            for secret in sorted(secrets, key=len, reverse=True):
                text = text.replace(secret, "********")
            return text

        error.details = {key: mask(value) for key, value in error.details.items()}
        return error

    # -- stage -----------------------------------------------------------------------------------------------------

    def _replace(self, plan: Plan) -> None:
        declaration = self._declaration
        self._generations.prepare()
        stage = Stage(declaration, self._generations)
        undo = _Undo(declaration)
        generation = None
        try:
            if declaration.account:
                undo.account = host.create_account(declaration.account)
                if undo.account:
                    self._step("created %s" % " and ".join(undo.account))
            undo.directories = host.create_directories(
                plan.new_directories + ([_CredentialDirectory(declaration.name)] if self._has_credentials() else []))
            program = self._place_program(plan, undo)
            if plan.create or plan.change or plan.remove or plan.program_action != "keep":
                stage.build([found.path for found in plan.remove])
                folder = program["folder"] if program and "folder" in program else declaration.program_path
                for name in stage.check(folder):
                    self._step("%s agrees" % name)
            generation = self._generations.store(self._manifest(plan, program, undo), declaration.files)
        except (ComponentError, OSError) as error:
            stage.remove()
            if generation:
                self._generations.discard(generation.number)
            undo.run()
            if not plan.before and not self._generations.numbers():
                self._generations.forget()
            error = _explained(error, declaration.name)
            error.message += ". Nothing that runs was touched"
            raise error from None
        stage.remove()
        self._switch(plan, generation, undo)

    def _has_credentials(self) -> bool:
        return any(item.kind == "credential" for item in self._declaration.files)

    def _place_program(self, plan: Plan, undo: _Undo) -> dict | None:
        program = self._declaration.program
        if program is None:
            return None
        if isinstance(program, release.Package):
            return program.record()
        if plan.program_action == "keep":
            return plan.before.manifest["program"]
        record = program.place(self._handed_over)
        undo.program = record["folder"]
        self._step("placed %s %s, checked against its sha256" % (self._declaration.name, program.version))
        return record

    def _manifest(self, plan: Plan, program: dict | None, undo: _Undo) -> dict:
        declaration = self._declaration
        before = plan.before.manifest if plan.before else {}
        made = before.get("account_made") or bool(undo.account)
        return {
            "format": 1, "component": declaration.name, "family": declaration.family,
            "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), "program": program,
            "program_path": declaration.program_path, "account": declaration.account, "account_made": made,
            "directories": [item.record() for item in declaration.directories],
            "unit": declaration.unit_file if declaration.unit else None, "watches": plan.watched,
            "answers": declaration.answers, "apply": declaration.apply, "snapshot": declaration.snapshot,
        }

    # -- switch and ask --------------------------------------------------------------------------------------------

    def _switch(self, plan: Plan, generation: Generation, undo: _Undo) -> None:
        declaration, generations = self._declaration, self._generations
        silence = health.Silence(declaration.silence, declaration.name)
        intent = {"from": plan.before.number if plan.before else None, "to": generation.number, "phase": "switching",
                  "silences": [], "undo": undo.record(), "status": plan.service}
        generations.intend(intent)
        try:
            if plan.service in ("restart", "stop"):
                trouble = silence.begin()
                if trouble:
                    self._step("no silence could be set: %s" % trouble)
                intent["silences"] = silence.placed
                generations.intend(intent)
            if plan.data.startswith("snapshot"):
                unit.systemctl("stop", declaration.unit_file)
                generations.take_snapshot(generation.number, declaration.snapshot)
                self._step("took a snapshot of %s" % ", ".join(declaration.snapshot))
            self._replace_files(plan)
            program = generation.manifest["program"]
            if isinstance(declaration.program, release.Package):
                if plan.program_action == "place" and not declaration.program.fits():
                    declaration.program.install(declaration.program.wanted_version)
                    self._step("installed %s %s" % (declaration.program.name, declaration.program.version))
            elif program:
                self._point_at(program)
            if plan.service == "stop":
                unit.systemctl("disable", "--now", declaration.unit_file)
            if _units_touched(plan):
                unit.systemctl("daemon-reload")
            if plan.enable:
                unit.systemctl("enable", "--quiet", declaration.unit_file)
            intent["phase"] = "starting"
            generations.intend(intent)
            self._bring_up(plan)
        except (ComponentError, OSError) as error:
            self._go_back(plan, generation, intent, _explained(error, declaration.name), silence)
        generations.prove(generation)
        generations.fulfil()
        silence.end()
        self._collect()

    def _replace_files(self, plan: Plan) -> None:
        for found in plan.changed_by_hand:
            self._step("saved the changed %s as %s" % (found.path, self._generations.save_changed(found)))
        for item in plan.directory_rights:
            files.set_rights(item.path, item.mode, item.owner, item.group)
        for item in plan.create + [item for _found, item in plan.change]:
            os.makedirs(os.path.dirname(item.path), mode=0o755, exist_ok=True)
            files.write(item.path, item.content, item.mode, item.owner, item.group)
            self._step("wrote %s" % item.path)
        for found, item in plan.rights:
            files.set_rights(found.path, item.mode, item.owner, item.group)
        for found in plan.remove:
            files.remove(found.path)
            self._step("removed %s" % found.path)

    def _point_at(self, program: dict) -> None:
        path = self._declaration.program_path
        target = os.path.basename(program["folder"])
        if not os.path.islink(path) or os.readlink(path) != target:
            files.link(target, path)

    def _bring_up(self, plan: Plan) -> None:
        declaration = self._declaration
        if plan.service in ("none", "stop"):
            return
        asked_at = None
        if plan.service == "reload":
            asked_at = time.time()
            unit.systemctl("reload", declaration.unit_file)
        else:
            unit.systemctl("reset-failed", declaration.unit_file, check=False)
            unit.systemctl("restart", declaration.unit_file)
        seconds = health.ask(declaration.unit_file, declaration.answers, reloaded_at=asked_at,
                             reload_metric=declaration.apply.get("reload_metric"))
        done = {"start": "started", "restart": "restarted", "reload": "reloaded"}[plan.service]
        self._step("%s %s, it answered after %.1f s" % (done, declaration.unit_file, seconds))

    # -- back ------------------------------------------------------------------------------------------------------

    def _go_back(self, plan: Plan, abandoned: Generation, intent: dict, cause: ComponentError,
                 silence: health.Silence) -> None:
        """Undo a switch that failed, then raise."""
        details = {"after the change: %s" % key: value for key, value in cause.details.items()}
        if plan.before is None:
            try:
                self._back_to_absent(abandoned.manifest, intent)
            except (ComponentError, OSError) as error:
                raise ComponentError("%s. Taking the first installation back failed too (%s): the next run tries "
                                     "again" % (cause.message, error), details) from None
            raise ComponentError("%s. The first installation was taken back; data was kept" % cause.message,
                                 details) from None
        try:
            self._restore(plan.before, abandoned.manifest, intent)
        except (ComponentError, OSError) as error:
            error = _explained(error, self._declaration.name)
            details.update({"after the return: %s" % key: value for key, value in error.details.items()})
            raise ComponentError("%s. Generation %d was put back but does not answer either: %s"
                                 % (cause.message, plan.before.number, error.message), details) from None
        silence.end()
        raise ComponentError("%s. Generation %d was put back and answers"
                             % (cause.message, plan.before.number), details) from None

    def _restore(self, target: Generation, abandoned: dict, intent: dict) -> None:
        """Make *target* true again and ask it. Answering or not, its files are back and the intent has ended."""
        manifest = target.manifest
        file = manifest.get("unit")
        snapshot = os.path.isdir(self._generations.snapshot_folder(intent["to"]))
        if snapshot and file:
            unit.systemctl("stop", file, check=False)
        touched = intent["phase"] == "starting" or snapshot
        wanted = target.wanted()
        for item in wanted:
            found = files.Found(item.path)
            if found.content != item.content or not found.same_rights(item.mode, item.owner, item.group):
                os.makedirs(os.path.dirname(item.path), mode=0o755, exist_ok=True)
                files.write(item.path, item.content, item.mode, item.owner, item.group)
                touched = True
        kept = {item.path for item in wanted}
        for record in abandoned.get("files", []):
            if record["path"] not in kept and files.remove(record["path"]):
                touched = True
        touched = self._restore_program(manifest, abandoned) or touched
        if snapshot and self._generations.restore_snapshot(intent["to"]):
            self._step("restored the snapshot of %s" % ", ".join(manifest.get("snapshot") or []))
        abandoned_unit = abandoned.get("unit")
        if abandoned_unit and not file:
            unit.systemctl("disable", "--now", abandoned_unit, check=False)
        unit.systemctl("daemon-reload")
        try:
            if file:
                if not unit.Status(file).enabled:
                    unit.systemctl("enable", "--quiet", file)
                if touched or not unit.Status(file).running:
                    unit.systemctl("reset-failed", file, check=False)
                    unit.systemctl("restart", file)
                    health.ask(file, manifest.get("answers") or {})
        except health.Unhealthy:
            self._generations.fulfil()
            raise
        self._generations.fulfil()
        self._collect()

    def _restore_program(self, manifest: dict, abandoned: dict) -> bool:
        program = manifest.get("program")
        if not program:
            return False
        if program["kind"] == "package":
            package = release.Package(self._declaration.name, {"name": program["name"]})
            if program["installed"] and package.installed != program["installed"]:
                package.install(program["installed"])
                return True
            return False
        path = manifest["program_path"]
        if os.path.islink(path) and os.readlink(path) == os.path.basename(program["folder"]):
            return False
        files.link(os.path.basename(program["folder"]), path)
        return True

    def _back_to_absent(self, abandoned: dict, intent: dict) -> None:
        """A first installation that failed leaves nothing but data and its owner."""
        if abandoned.get("unit"):
            unit.systemctl("disable", "--now", abandoned["unit"], check=False)
        for record in abandoned.get("files", []):
            files.remove(record["path"])
        unit.systemctl("daemon-reload")
        if abandoned.get("unit"):
            unit.systemctl("reset-failed", abandoned["unit"], check=False)
        self._remove_programs([])
        _Undo.from_record(self._declaration, intent.get("undo") or {}).run()
        self._generations.forget()

    def _recover(self) -> None:
        """Finish what an interrupted run began, by going back."""
        intent = self._generations.intent()
        files.sweep_temporaries(self._generations.root)
        for folder in {os.path.dirname(item.path) for item in self._declaration.files}:
            files.sweep_temporaries(folder)
        if intent is None:
            return
        proven = self._generations.proven()
        silence = health.Silence(self._declaration.silence, self._declaration.name)
        if proven and proven.number == intent["to"]:
            self._generations.fulfil()
            silence.end(intent.get("silences") or [])
            return
        self._recovered = True
        abandoned = self._generations.load(intent["to"])
        if proven is None:
            self._back_to_absent(abandoned.manifest, intent)
            self._generations.prepare()
            self._step("an earlier first installation was interrupted: it was taken back")
            return
        try:
            self._restore(proven, abandoned.manifest, intent)
            self._step("an earlier run was interrupted: generation %d was restored and answers" % proven.number)
        except health.Unhealthy as error:
            # The files are generation n's again; perhaps the declaration of this run is the very mend.
            self._setback = error
            self._step("an earlier run was interrupted: generation %d was restored but does not answer"
                       % proven.number)
        silence.end(intent.get("silences") or [])

    # -- absent ----------------------------------------------------------------------------------------------------

    def _remove(self, plan: Plan) -> None:
        declaration = self._declaration
        manifest = plan.before.manifest if plan.before else {}
        if plan.service == "stop":
            # Not expired afterwards: until Prometheus forgets the target its absence is no incident.
            health.Silence(declaration.silence, declaration.name).begin()
            unit.systemctl("disable", "--now", manifest["unit"])
            self._step("stopped %s" % manifest["unit"])
        for found in plan.changed_by_hand:
            self._step("saved the changed %s as %s" % (found.path, self._generations.save_changed(found)))
        for found in plan.remove:
            files.remove(found.path)
            self._step("removed %s" % found.path)
        files.remove(os.path.join(unit.CREDENTIAL_ROOT, declaration.name))
        if manifest.get("unit"):
            unit.systemctl("daemon-reload")
            unit.systemctl("reset-failed", manifest["unit"], check=False)
        program = manifest.get("program") or {}
        if program.get("kind") == "package" and not program.get("installed"):
            release.Package(declaration.name, {"name": program["name"]}).remove()
        self._remove_programs([])
        recorded = [item["path"] for item in manifest.get("directories", []) if item["kind"] != "data"]
        declared = [item.path for item in declaration.directories if item.kind != "data"]
        host.remove_directories(sorted(set(recorded + declared)) + [unit.CREDENTIAL_ROOT])
        data = [path for path in plan.data_paths() if os.path.lexists(path)]
        if declaration.purge_data:
            for path in data:
                files.remove(path)
                self._step("purged %s" % path)
            data = []
        account = manifest.get("account") or declaration.account
        self._generations.forget()
        if account and not data and (manifest.get("account_made") or declaration.purge_data):
            if host.remove_account(account, declaration.name):
                self._step("removed the account %s" % account["user"])
        host.remove_directories([unit.CREDENTIAL_ROOT, os.path.dirname(unit.CREDENTIAL_ROOT), release.PROGRAM_ROOT])

    # -- housekeeping ----------------------------------------------------------------------------------------------

    def _collect(self) -> None:
        kept = self._generations.collect()
        self._remove_programs([item["program"]["folder"] for item in kept
                               if item.get("program") and item["program"].get("folder")])

    def _remove_programs(self, kept: list[str]) -> None:
        """Drop program folders that no generation names."""
        home = os.path.join(release.PROGRAM_ROOT, self._declaration.name)
        try:
            names = os.listdir(home)
        except FileNotFoundError:
            return
        for name in names:
            path = os.path.join(home, name)
            if path not in kept and (kept == [] or not os.path.islink(path)):
                files.remove(path)
        if not kept:
            host.remove_directories([home, release.PROGRAM_ROOT])


class _CredentialDirectory:
    """Root alone enters the folder of a component's credentials."""

    def __init__(self, component: str) -> None:
        self.path = os.path.join(unit.CREDENTIAL_ROOT, component)
        self.mode, self.owner, self.group = 0o700, "root", "root"


class _Undo:
    """What staging made and takes back when nothing comes of it."""

    def __init__(self, declaration: Declaration) -> None:
        self._declaration = declaration
        self.account: list[str] = []
        self.directories: list[str] = []
        self.program = ""

    def record(self) -> dict:
        return {"account": self.account, "directories": self.directories, "program": self.program}

    @classmethod
    def from_record(cls, declaration: Declaration, record: dict) -> _Undo:
        undo = cls(declaration)
        undo.account = record.get("account") or []
        undo.directories = record.get("directories") or []
        undo.program = record.get("program") or ""
        return undo

    def run(self) -> None:
        if self.program:
            files.remove(self.program)
            host.remove_directories([os.path.dirname(self.program), release.PROGRAM_ROOT])
        host.remove_directories(self.directories)
        data = [item.path for item in self._declaration.directories
                if item.kind == "data" and os.path.lexists(item.path)]
        if self.account and not data and self._declaration.account:
            host.remove_account(self._declaration.account, self._declaration.name)


def _units_touched(plan: Plan) -> bool:
    paths = [item.path for item in plan.create] + [item.path for _found, item in plan.change]
    paths += [found.path for found in plan.remove]
    return any(path.startswith(unit.UNIT_ROOT) for path in paths) or bool(plan.status and plan.status.stale)


def _explained(error: Exception, component: str) -> ComponentError:
    if isinstance(error, ComponentError):
        return error
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return ComponentError("no room on the disk while working on %s (%s): make room, then run again"
                              % (component, error.filename or error.strerror))
    return ComponentError("%s: %s" % (component, error))


__all__ = ["Refused", "Transaction"]
