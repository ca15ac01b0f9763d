#!/usr/bin/env python3
"""A small window that comes up as it was left, whatever happened to it in between.

    python scripts/demo_app.py [--state PATH]

Its place and size, the chat and the recent folders live in a store with `autosync`: there is no
button to save, and none is needed. Kill it, or pull the plug, and start it again.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import queue
import sys
import tkinter as tk
from collections.abc import Callable
from pathlib import Path
from tkinter import filedialog, ttk
from typing import Any, Final

sys.path.append(str(Path(__file__).resolve().parents[1]))

import redundict

RECENT: Final = 5  #: Folders in the menu.
DEFAULTS: Final[dict[str, Any]] = {
    "window": {"geometry": "720x440+80+60"},
    "chat": {"width": 260, "lines": ["Welcome. What you write here is kept."]},
    "recent": [],
}


def default_path() -> str:
    """Return where this user's state belongs on this platform."""
    if sys.platform == "win32":
        folder = os.environ.get("LOCALAPPDATA", os.path.expanduser("~"))
    else:
        folder = os.environ.get("XDG_STATE_HOME", os.path.expanduser("~/.local/state"))
    os.makedirs(os.path.join(folder, "redundict-demo"), exist_ok=True)
    return os.path.join(folder, "redundict-demo", "state.json")


class Window(tk.Tk):
    """The application: each handler changes the dict, and nothing else has to be done."""

    def __init__(self, path: str) -> None:
        super().__init__()
        # Events come from the thread that commits; what Tk is told comes from this one.
        self.events: queue.SimpleQueue[redundict.Event] = queue.SimpleQueue()
        self.settings = redundict.open(
            path, defaults=DEFAULTS, autosync=1.0, on_event=self.events.put
        )
        self.title("redundict demo")
        self.geometry(self.settings["window"]["geometry"])
        self.minsize(480, 300)
        self._build_menu()
        self._build_panes()
        self._build_status()
        self.bind("<Configure>", self._moved)
        self.protocol("WM_DELETE_WINDOW", self.close)
        self._show_status()

    def close(self) -> None:
        """Save what is unsaved, and go."""
        self.settings.close()
        self.destroy()

    def open_folder(self, folder: str) -> None:
        """Take a folder for the one that was used last."""
        with self.settings.lock:  # two changes that belong together
            recent = [folder, *(other for other in self.settings["recent"] if other != folder)]
            self.settings["recent"] = recent[:RECENT]
            self.settings["chat"]["lines"].append(f"Opened {folder}")
        self._show_recent()
        self._show_chat()

    # --- how it is built

    def _build_menu(self) -> None:
        bar = tk.Menu(self)
        files = tk.Menu(bar, tearoff=False)
        self.recent_menu = tk.Menu(files, tearoff=False)
        files.add_command(label="Open folder...", command=self._choose_folder)
        files.add_cascade(label="Recent folders", menu=self.recent_menu)
        files.add_separator()
        files.add_command(label="Quit", command=self.close)
        bar.add_cascade(label="File", menu=files)
        self.config(menu=bar)

    def _build_panes(self) -> None:
        self.panes = ttk.PanedWindow(self, orient="horizontal")
        left, right = ttk.Frame(self.panes, padding=12), ttk.Frame(self.panes, padding=12)
        self.panes.add(left, weight=1)
        self.panes.add(right, weight=0)
        self.panes.pack(fill="both", expand=True)
        ttk.Label(left, text="Recent folders", font="TkHeadingFont").pack(anchor="w")
        self.recent_list = tk.Listbox(left, relief="flat", highlightthickness=0)
        self.recent_list.pack(fill="both", expand=True, pady=(8, 0))
        ttk.Label(right, text="Chat", font="TkHeadingFont").pack(anchor="w")
        self.line = ttk.Entry(right)
        self.line.pack(side="bottom", fill="x", pady=(8, 0))
        self.line.bind("<Return>", self._send)
        self.chat = tk.Text(
            right, width=1, wrap="word", relief="flat", padx=6, pady=6, font="TkDefaultFont"
        )
        self.chat.pack(fill="both", expand=True, pady=(8, 0))
        self._show_recent()
        self._show_chat()
        self.update_idletasks()
        self._sash(self.winfo_width() - self.settings["chat"]["width"])
        self.panes.bind("<ButtonRelease-1>", self._moved)
        self.line.focus_set()

    def _build_status(self) -> None:
        self.status = ttk.Label(self, padding=(12, 4), anchor="w")
        self.status.pack(side="bottom", fill="x", before=self.panes)
        self.notice = "Change something and kill me: I come up as I was."
        if recovery := self.settings.recovery:
            self.notice = told(recovery)

    # --- what happens

    def _moved(self, _: object) -> None:
        with self.settings.lock:
            self.settings["window"]["geometry"] = self.geometry()
            self.settings["chat"]["width"] = self.winfo_width() - self._sash()

    def _send(self, _: object) -> None:
        if text := self.line.get().strip():
            self.settings["chat"]["lines"].append(text)
            self.line.delete(0, "end")
            self._show_chat()

    def _choose_folder(self) -> None:
        if folder := filedialog.askdirectory(parent=self):
            self.open_folder(folder)

    def _sash(self, *position: int) -> int:
        """Return where the panes meet; set it first, if told to."""
        return int(self.tk.call(self.panes, "sashpos", 0, *position))

    # --- what is shown

    def _show_recent(self) -> None:
        self.recent_menu.delete(0, "end")
        self.recent_list.delete(0, "end")
        for folder in self.settings["recent"]:
            self.recent_menu.add_command(label=folder, command=self._opener(folder))
            self.recent_list.insert("end", f"  {folder}")

    def _opener(self, folder: str) -> Callable[[], None]:
        return lambda: self.open_folder(folder)

    def _show_chat(self) -> None:
        self.chat.config(state="normal")
        self.chat.delete("1.0", "end")
        self.chat.insert("end", "\n\n".join(self.settings["chat"]["lines"]))
        self.chat.config(state="disabled")
        self.chat.see("end")

    def _show_status(self) -> None:
        with contextlib.suppress(queue.Empty):
            event = self.events.get_nowait()
            self.notice = told(event.recovery) if event.recovery else event.message
        self.status.config(text=f"{self.notice}  |  generation {self.settings.generation}")
        self.after(200, self._show_status)


def told(recovery: redundict.Recovery) -> str:
    """Return what a user should know of damage that was found."""
    if recovery.newest_lost and recovery.written:
        return f"Your settings were restored from {recovery.written.astimezone():%H:%M on %B %d}."
    return "A damaged copy of your settings was found; nothing is lost."


def main() -> None:
    """Show the window until it is closed."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--state", metavar="PATH", help="where the state is kept")
    parser.add_argument("--open", metavar="FOLDER", help="open a folder at the start")
    args = parser.parse_args()
    try:
        window = Window(args.state or default_path())
    except redundict.LockedError as error:  # it is there already: a user wants no traceback
        parser.exit(1, f"{error}\n")
    if args.open:
        window.open_folder(args.open)
    window.mainloop()


if __name__ == "__main__":
    main()
