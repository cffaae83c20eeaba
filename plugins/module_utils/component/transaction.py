# Copyright: (c) 2026, aistack.observability contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Making a plan true: stage, switch, ask; and back to the last proven generation when the answer doesn't come.

After a kill at any moment the intent on disk says where from and where to, and the next run goes back first.
"""
from __future__ import annotations

import errno
import json
import os
import time
import traceback

from . import files, health, host, release, unit
from .declaration import Declaration
from .errors import ComponentError
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
            fetched = plan.program_action != "keep" and not plan.placed_before
            needs = self._declaration.program.needs() if fetched else []
            return dict(self._result(plan, not plan.empty), needs=needs)

    def carry_out(self) -> dict:
        """Make the declaration true, or leave the host as it was."""
        with self._generations.lock():
            try:
                self._recover()
                plan = Plan(self._declaration, self._generations, self._recovered)
                result = self._result(plan, self._recovered or not plan.empty)
                if not plan.empty:
                    (self._remove if self._declaration.absent else self._replace)(plan)
                return dict(result, steps=self._steps, generation=self._number())
            except Exception as error:
                explained = _explained(error, self._declaration.name)
                if self._setback:
                    explained.details.update({"before, %s" % key: value
                                              for key, value in self._setback.details.items()})
                    explained.message += ". Before that: " + self._setback.message
                raise self._masked(explained) from error

    def _result(self, plan: Plan, changed: bool) -> dict:
        return {"changed": changed, "plan": plan.show(), "steps": [], "diff": plan.diff(),
                "generation": self._number()}

    def _number(self) -> int | None:
        proven = self._generations.proven()
        return proven.number if proven else None

    def _step(self, text: str) -> None:
        self._steps.append(text)

    def _masked(self, error: ComponentError) -> ComponentError:
        """A checker or a journal may repeat a line of a secret; the user's screen must not."""
        secrets: set[str] = set()
        for item in self._declaration.files:
            if item.secret:
                text = item.content.decode("utf-8", "replace")
                parts = [part.strip() for part in [text] + text.splitlines()]
                # Programs like to quote what they complain of.
                parts += [json.dumps(part)[1:-1] for part in parts] + [repr(part)[1:-1] for part in parts]
                secrets.update(part for part in parts if len(part) >= 4)
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
        """Stage with an intent on disk that says what is made on the way, then switch."""
        generations = self._generations
        generations.prepare()
        directories = plan.new_directories + plan.directory_rights
        undo = {"account": plan.missing_account, "user": self._declaration.account,
                "directories": host.missing_directories(self._folders(plan)),
                "data": [item.path for item in directories if item.kind == "data"],
                "rights": [host.rights(item.path) for item in plan.directory_rights],
                "folders": sorted({os.path.dirname(item.path) for item in self._declaration.files})}
        status = {"running": plan.status.running, "enabled": plan.status.enabled} if plan.status else {}
        intent: dict = {"from": plan.before.number if plan.before else None, "to": generations.next_number(),
                        "phase": "staging", "silences": [], "undo": undo, "unit": status,
                        "readers": _running(plan.readers)}
        generations.intend(intent)
        silence = health.Silence(self._declaration.silence, self._declaration.name)
        if plan.service == "start":
            # It may be down for as long as staging takes. Right after an installation there is nobody to be told.
            silence.begin()
            intent["silences"] = silence.placed
            generations.intend(intent)
        try:
            generation, prepared = self._stage(plan, intent)
        except Exception as error:
            silence.end()
            explained = _explained(error, self._declaration.name)
            explained.message += ". Nothing that runs was touched"
            try:
                self._unstage(intent)
            except Exception as trouble:
                explained.message += "; the next run clears up what was staged (%s)" % trouble
            raise explained from error
        self._switch(plan, generation, prepared, intent, silence)

    def _folders(self, plan: Plan) -> list[str]:
        """Directories that must be there before the files are."""
        credentials = [_CredentialDirectory(self._declaration.name)] if self._has_credentials() else []
        return ([item.path for item in plan.new_directories + credentials]
                + [os.path.dirname(item.path) for item in plan.create])

    def _stage(self, plan: Plan, intent: dict) -> tuple[Generation, list[tuple[str, str]]]:
        """Everything that can fail or takes time: what runs doesn't notice it."""
        declaration = self._declaration
        program = self._place_program(plan)
        if declaration.account and plan.missing_account:
            made = host.create_account(declaration.account, plan.missing_account)
            self._step("created %s" % " and ".join(made))
        credentials = [_CredentialDirectory(declaration.name)] if self._has_credentials() else []
        host.create_directories(intent["undo"]["directories"], plan.new_directories + credentials)
        stage = Stage(declaration, self._generations)
        if not isinstance(declaration.program, release.Package):
            self._check(plan, stage, program)
        stage.remove()
        for found in plan.changed_by_hand:
            self._step("saved the changed %s as %s" % (found.path, self._generations.save_changed(found)))
        generation = self._generations.store(intent["to"], self._manifest(plan, program, intent), declaration.files,
                                             plan.foreign)
        wanted = plan.create + [item for _found, item in plan.change]
        prepared = [(files.prepare(item.path, item.content, item.mode, item.owner, item.group, declaration.name),
                     item.path) for item in wanted]
        return generation, prepared

    def _check(self, plan: Plan, stage: Stage, program: dict | None) -> None:
        if not (plan.create or plan.change or plan.remove or plan.program_action != "keep"):
            return
        stage.build([found.path for found in plan.remove])
        folder = program["folder"] if program and "folder" in program else self._declaration.program_path
        for name in stage.check(folder):
            self._step("%s agrees" % name)

    def _has_credentials(self) -> bool:
        return any(item.kind == "credential" for item in self._declaration.files)

    def _place_program(self, plan: Plan) -> dict | None:
        program, before = self._declaration.program, (plan.before.manifest.get("program") if plan.before else None)
        if program is None:
            return None
        if isinstance(program, release.Package):
            return program.record(before)
        if plan.program_action == "keep":
            return before
        if plan.placed_before:
            return plan.placed_before
        record = program.place(self._handed_over)
        self._step("placed %s %s, checked against its sha256" % (self._declaration.name, program.version))
        return record

    def _manifest(self, plan: Plan, program: dict | None, intent: dict) -> dict:
        declaration = self._declaration
        before = plan.before.manifest if plan.before else {}
        return {
            "format": 1, "component": declaration.name, "family": declaration.family,
            "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), "program": program,
            "program_path": declaration.program_path, "account": declaration.account,
            "directories": [item.record() for item in declaration.directories],
            "made": sorted(set(before.get("made") or []) | set(intent["undo"]["directories"])),
            "unit": declaration.unit_file if declaration.unit else None, "watches": plan.watched,
            "answers": declaration.answers, "apply": declaration.apply, "snapshot": declaration.snapshot,
        }

    def _unstage(self, intent: dict) -> None:
        """Take back what staging made, and end the intent."""
        undo, name = intent["undo"], self._declaration.name
        for folder in undo["folders"]:
            files.sweep_temporaries(folder, name)
        Stage(self._declaration, self._generations).remove()
        self._collect()
        host.remove_directories(undo["directories"])
        if undo["account"] and not any(os.path.lexists(path) for path in undo["data"]):
            host.remove_account(undo["user"], name, undo["account"])
        if self._generations.proven():
            self._generations.fulfil()
        else:
            self._generations.forget()

    # -- switch and ask --------------------------------------------------------------------------------------------

    def _switch(self, plan: Plan, generation: Generation, prepared: list[tuple[str, str]], intent: dict,
                silence: health.Silence) -> None:
        declaration, generations = self._declaration, self._generations
        intent["phase"] = "switching"
        try:
            generations.intend(intent)
            if plan.service in ("restart", "stop"):
                trouble = silence.begin()
                if trouble:
                    self._step("no silence could be set: %s" % trouble)
                intent["silences"] = silence.placed
                generations.intend(intent)
            if plan.service == "stop":
                unit.systemctl("disable", "--now", declaration.unit_file)
                self._step("stopped %s" % declaration.unit_file)
            if plan.data.startswith("snapshot"):
                unit.systemctl("stop", declaration.unit_file)
                generations.take_snapshot(generation.number, declaration.snapshot)
                self._step("took a snapshot of %s" % ", ".join(declaration.snapshot))
            if isinstance(declaration.program, release.Package):
                self._install_package(plan, generation)
            elif declaration.program:
                self._point_at(generation.manifest["program"])
            self._replace_files(plan, prepared)
            if _units_touched(plan):
                unit.systemctl("daemon-reload")
            self._restart_readers(intent["readers"])
            if plan.enable:
                unit.systemctl("enable", "--quiet", declaration.unit_file)
            intent["phase"] = "starting"
            generations.intend(intent)
            self._bring_up(plan)
            generations.prove(generation)
        except Exception as error:
            self._go_back(plan, generation, intent, _explained(error, declaration.name), silence)
        silence.end()
        try:
            self._collect()
        except OSError as error:
            self._step("what is no longer needed could not be removed: %s" % error)
        generations.fulfil()

    def _install_package(self, plan: Plan, generation: Generation) -> None:
        """A package can't be staged beside the old one: its checkers run when it is there."""
        package = self._declaration.program
        if plan.program_action == "place" and not package.fits():
            package.install(package.wanted_version)
            self._step("installed %s %s" % (package.name, package.version))
        program = generation.manifest["program"]
        program["installed"], program["version"] = package.installed, package.version
        self._generations.amend(generation)
        stage = Stage(self._declaration, self._generations)
        self._check(plan, stage, None)
        stage.remove()

    def _replace_files(self, plan: Plan, prepared: list[tuple[str, str]]) -> None:
        for item in plan.directory_rights:
            files.set_rights(item.path, item.mode, item.owner, item.group)
        for temporary, path in prepared:
            files.commit(temporary, path)
            self._step("wrote %s" % path)
        for found, item in plan.rights:
            files.set_rights(found.path, item.mode, item.owner, item.group)
            self._step("set the rights of %s" % found.path)
        for found in plan.remove:
            files.unlink(found.path)
            self._step("removed %s" % found.path)
        if plan.remove and plan.before:
            self._remove_stale_directories(plan.before.manifest)

    def _remove_stale_directories(self, manifest: dict) -> None:
        """Directories that an earlier declaration made for configuration and this one has no use for."""
        wanted = [item.path for item in self._declaration.directories + self._declaration.files]
        host.remove_directories([path for path in _configuration_directories(manifest)
                                 if not any((item + "/").startswith(path + "/") for item in wanted)])

    def _restart_readers(self, units: list[str]) -> None:
        for name in units:
            health.start(name)
            self._step("restarted %s, which reads what changed" % name)

    def _readers_again(self, intent: dict) -> health.Unhealthy | None:
        """On the way back, with what they read before; one that won't start mustn't keep ours down."""
        trouble = None
        for name in intent.get("readers") or []:
            try:
                self._restart_readers([name])
            except health.Unhealthy as error:
                trouble = error
        return trouble

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
        if plan.service != "reload":
            health.start(declaration.unit_file)
        elif not declaration.apply.get("rereads"):
            asked_at = health.reload(declaration.unit_file, declaration.apply.get("reload_requests") or [],
                                     declaration.answers)
        seconds = health.ask(declaration.unit_file, declaration.answers, reloaded_at=asked_at,
                             reload_metric=declaration.apply.get("reload_metric"))
        done = {"start": "started", "restart": "restarted", "reload": "reloaded"}[plan.service]
        self._step("%s %s, it answered after %.1f s" % (done, declaration.unit_file, seconds))

    # -- back ------------------------------------------------------------------------------------------------------

    def _go_back(self, plan: Plan, abandoned: Generation, intent: dict, cause: ComponentError,
                 silence: health.Silence) -> None:
        """Undo a switch that failed, then raise."""
        details = {"after the change: %s" % key: value for key, value in cause.details.items()}
        try:
            if plan.before is None:
                self._back_to_absent(abandoned, intent)
            else:
                self._restore(plan.before, abandoned, intent)
        except health.Unhealthy as error:
            details.update({"after the return: %s" % key: value for key, value in error.details.items()})
            if plan.before is None:
                raise ComponentError("%s. The first installation was taken back, and then %s"
                                     % (cause.message, error.message), details) from None
            raise ComponentError("%s. Generation %d was put back but does not answer either: %s"
                                 % (cause.message, plan.before.number, error.message),
                                 details) from None
        except Exception as error:
            explained = _explained(error, self._declaration.name)
            details.update({"on the way back: %s" % key: value for key, value in explained.details.items()})
            raise ComponentError("%s. Going back failed too: %s. The next run tries that again first"
                                 % (cause.message, explained.message), details) from None
        silence.end()
        if plan.before is None:
            raise ComponentError("%s. The first installation was taken back; data was kept" % cause.message,
                                 details) from None
        raise ComponentError("%s. Generation %d was put back and answers"
                             % (cause.message, plan.before.number), details) from None

    def _restore(self, target: Generation, abandoned: Generation, intent: dict, start: bool = True) -> None:
        """Make *target* true again and ask it. Answering or not, its files are back and the intent has ended."""
        manifest = target.manifest
        file, abandoned_file = manifest.get("unit"), abandoned.manifest.get("unit")
        snapshot = os.path.isdir(self._generations.snapshot_folder(intent["to"]))
        if snapshot and file:
            unit.systemctl("stop", file)
        if abandoned_file and not file:
            unit.systemctl("disable", "--now", abandoned_file, check=False)
        touched = intent["phase"] == "starting" or snapshot
        wanted = target.wanted()
        host.restore_rights(intent["undo"]["rights"])
        # First what makes room.
        touched = self._remove_abandoned(abandoned, {item.path for item in wanted}) or touched
        for item in manifest["directories"]:
            host.create_directories(host.missing_directories([item["path"]]), [])
            files.set_rights(item["path"], item["mode"], item["owner"], item["group"])
        for item in wanted:
            found = files.Found(item.path)
            if found.type == "missing" or found.content != item.content:
                os.makedirs(os.path.dirname(item.path), mode=0o755, exist_ok=True)
                files.write(item.path, item.content, item.mode, item.owner, item.group, self._declaration.name)
                touched = touched or not item.read_by
            elif not found.same_rights(item.mode, item.owner, item.group):
                files.set_rights(item.path, item.mode, item.owner, item.group)
                touched = True
        touched = self._restore_program(manifest) or touched
        restored = self._generations.restore_snapshot(intent["to"]) if snapshot else []
        if restored:
            self._step("restored the snapshot of %s" % ", ".join(restored))
        unit.systemctl("daemon-reload")
        silent = self._readers_again(intent)
        if file and start:
            if not unit.Status(file).enabled:
                unit.systemctl("enable", "--quiet", file)
            if touched or not unit.Status(file).running:
                try:
                    health.start(file)
                    health.ask(file, manifest.get("answers") or {})
                except health.Unhealthy as error:
                    silent = error
        self._unstage(intent)
        if silent:
            raise silent

    def _remove_abandoned(self, abandoned: Generation, kept: set[str]) -> bool:
        """Take away the files of a generation that came to nothing, and put back what it replaced of others."""
        foreign, touched = abandoned.foreign(), False
        for path, record in abandoned.records().items():
            if path in foreign:
                found = foreign[path]
                files.write(path, found.content, 0o600, component=self._declaration.name)
                os.chown(path, found.uid or 0, found.gid or 0)
                os.chmod(path, found.mode)
            elif path not in kept:
                touched = files.unlink(path) and not record.get("read_by") or touched
        return touched

    def _restore_program(self, manifest: dict) -> bool:
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

    def _back_to_absent(self, abandoned: Generation, intent: dict) -> None:
        """A first installation that failed leaves nothing but data and its owner; what it adopted is back."""
        file = abandoned.manifest.get("unit")
        if file:
            unit.systemctl("disable", "--now", file, check=False)
        self._remove_abandoned(abandoned, set())
        host.restore_rights(intent["undo"]["rights"])
        program = abandoned.manifest.get("program") or {}
        if program.get("kind") == "package" and program["ours"]:
            release.Package(self._declaration.name, program).remove()
        if file:
            unit.systemctl("daemon-reload")
            unit.systemctl("reset-failed", file, check=False)
            if intent["unit"].get("enabled"):
                unit.systemctl("enable", "--quiet", file, check=False)
            if intent["unit"].get("running"):
                unit.systemctl("start", file, check=False)
        trouble = self._readers_again(intent)
        self._unstage(intent)
        if trouble:
            raise trouble

    def _recover(self) -> None:
        """Finish what an interrupted run began, by going back."""
        generations = self._generations
        files.sweep_temporaries(generations.root)
        intent = generations.intent()
        if intent is None:
            return
        self._recovered = True
        proven = generations.proven()
        try:
            if proven and proven.number == intent["to"]:
                self._collect()
                generations.fulfil()
                self._step("an earlier run was interrupted when generation %d had answered" % proven.number)
            elif intent["phase"] == "staging":
                self._unstage(intent)
                self._step("an earlier run was interrupted before it changed anything: what it staged was removed")
            elif proven is None:
                self._back_to_absent(generations.abandoned(intent), intent)
                self._step("an earlier first installation was interrupted: it was taken back")
            else:
                # What is about to be removed need not answer.
                self._restore(proven, generations.abandoned(intent), intent, start=not self._declaration.absent)
                self._step("an earlier run was interrupted: generation %d was restored" % proven.number)
        except health.Unhealthy as error:
            # The files are generation n's again; perhaps the declaration of this run is the very mend.
            self._setback = error
            self._step("an earlier run was interrupted: the last proven generation was restored but does not answer")
        health.Silence(self._declaration.silence, self._declaration.name).end(intent["silences"])

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
            files.unlink(found.path)
            self._step("removed %s" % found.path)
        self._restart_readers(_running(plan.readers))
        files.remove(os.path.join(unit.CREDENTIAL_ROOT, declaration.name))
        if manifest.get("unit"):
            unit.systemctl("daemon-reload")
            unit.systemctl("reset-failed", manifest["unit"], check=False)
        program = manifest.get("program") or {}
        if program.get("kind") == "package" and program["ours"]:
            release.Package(declaration.name, program).remove()
            self._step("removed the package %s" % program["name"])
        self._remove_programs([])
        data = [path for path in plan.data_paths() if os.path.lexists(path)]
        if declaration.purge_data:
            for path in data:
                files.remove(os.path.realpath(path))
                files.remove(path)
                self._step("purged %s" % path)
        directories = _configuration_directories(manifest)
        directories += [item.path for item in declaration.directories if item.kind != "data"]
        host.remove_directories(directories + [unit.CREDENTIAL_ROOT, os.path.dirname(unit.CREDENTIAL_ROOT)])
        account = manifest.get("account") or declaration.account
        kept = [path for path in data if os.path.lexists(path)]
        if account and not kept and host.remove_account(account, declaration.name):
            self._step("removed the account %s" % account["user"])
        self._generations.forget()

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
            if os.path.join(home, name) not in kept and not (kept and name == release.CURRENT):
                files.remove(os.path.join(home, name))
        host.remove_directories([home, release.PROGRAM_ROOT])


class _CredentialDirectory:
    """Root alone enters the folder of a component's credentials."""

    def __init__(self, component: str) -> None:
        self.path = os.path.join(unit.CREDENTIAL_ROOT, component)
        self.mode, self.owner, self.group = 0o700, "root", "root"


def _configuration_directories(manifest: dict) -> list[str]:
    """What goes with a component if nothing is left in it."""
    data = {item["path"] for item in manifest.get("directories", []) if item["kind"] == "data"}
    declared = [item["path"] for item in manifest.get("directories", [])]
    return sorted(set(declared + manifest.get("made", [])) - data)


def _running(units: list[str]) -> list[str]:
    return [name for name in units if unit.Status(name).running]


def _units_touched(plan: Plan) -> bool:
    """Before a start in any case: systemd doesn't notice by itself that the user gave the unit a first drop-in."""
    if plan.service in ("start", "restart"):
        return True
    paths = [item.path for item in plan.create] + [item.path for _found, item in plan.change]
    paths += [found.path for found in plan.remove]
    return any(path.startswith(unit.UNIT_ROOT) for path in paths)


def _explained(error: Exception, component: str) -> ComponentError:
    if isinstance(error, ComponentError):
        return error
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return ComponentError("no room on the disk while working on %s (%s): make room, then run again"
                              % (component, error.filename or error.strerror))
    if isinstance(error, OSError):
        return ComponentError("%s: %s" % (component, error))
    return ComponentError("%s: %s: %s" % (component, type(error).__name__, error),
                          {"traceback": traceback.format_exc()})
