// The home page's two abilities: copying a line, and showing whether the server is ready.
"use strict";

async function copy(button) {
  const code = button.parentElement.querySelector("code");
  try {
    await navigator.clipboard.writeText(code.textContent);
    button.textContent = "Copied";
    button.classList.add("done");
  } catch {
    // Without the clipboard's permission (plain http on another machine) the line is at least selected.
    getSelection().selectAllChildren(code);
    button.textContent = "Selected";
  }
  setTimeout(() => {
    button.textContent = "Copy";
    button.classList.remove("done");
  }, 1600);
}

async function ask() {
  const state = document.getElementById("state");
  const show = (kind, word) => {
    state.className = "state " + kind;
    state.querySelector(".word").textContent = word;
  };
  try {
    const answer = await fetch("/readyz", { headers: { accept: "application/json" } });
    const { ready, probes } = await answer.json();
    const broken = Object.keys(probes).filter((name) => !probes[name].ok);
    show(ready ? "good" : "bad", ready ? "ready" : "not ready: " + broken.join(", "));
  } catch {
    show("bad", "not reachable");
  }
}

for (const button of document.querySelectorAll(".line button")) {
  button.addEventListener("click", () => copy(button));
}
ask();
