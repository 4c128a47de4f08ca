// What pages need beyond htmx: choosing tasks, copying, dismissing, keyboard.

const on = (type, selector, act) =>
  document.addEventListener(type, (event) => {
    const found = event.target.closest?.(selector);
    if (found) act(found, event);
  });

on("click", "[data-dismiss]", (button) => button.closest(".notice").remove());

on("click", "[data-copy]", async (button) => {
  await navigator.clipboard.writeText(button.parentElement.querySelector("code").textContent);
  button.textContent = "Copied";
  setTimeout(() => (button.textContent = "Copy"), 1500);
});

const refs = () => [...document.querySelectorAll("#ask-form input[name=ref]")].map((input) => input.value);

const refsChanged = () => {
  const query = refs().map((ref) => `task=${encodeURIComponent(ref)}`).join("&");
  history.replaceState(null, "", `/console/${query ? "?" + query : ""}`);
  window.htmx.trigger(document.querySelector("#ask-fields fieldset"), "refs-changed");
};

on("click", "[data-add-ref]", (button) => {
  if (refs().includes(button.dataset.addRef)) return;
  const input = document.createElement("input");
  Object.assign(input, { type: "hidden", name: "ref", value: button.dataset.addRef });
  document.querySelector("#ask-fields fieldset").append(input);
  refsChanged();
});

on("click", "[data-remove-ref]", (button) => {
  button.closest(".pick").remove();
  refsChanged();
});

document.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
    event.target.form?.requestSubmit();
  }
});

on("click", "[data-clear]", (button) => document.querySelector(button.dataset.clear).replaceChildren());

// keys of a card, while the focus is in it and not in a field
document.addEventListener("keydown", (event) => {
  const card = event.target.closest?.("[data-keys]");
  if (!card || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.target.matches("select, textarea, input:not([type=checkbox])")) return;
  if (event.key === "Enter" && event.target.matches("button, a")) return;
  const found = [...document.querySelectorAll("[data-key]")].find((each) => each.dataset.key === event.key);
  if (!found) return;
  event.preventDefault();
  found.click();
});

// an adapter's folder, or its files, dropped on the form
const filesOf = async (entry) => {
  if (entry.isFile) return [await new Promise((found, failed) => entry.file(found, failed))];
  const children = await new Promise((found, failed) => entry.createReader().readEntries(found, failed));
  return (await Promise.all(children.filter((child) => child.isFile).map(filesOf))).flat();
};

for (const type of ["dragover", "dragleave"]) {
  on(type, ".drop", (form, event) => {
    event.preventDefault();
    form.classList.toggle("over", type === "dragover");
  });
}

on("drop", ".drop", async (form, event) => {
  event.preventDefault();
  form.classList.remove("over");
  const entries = [...event.dataTransfer.items].map((item) => item.webkitGetAsEntry()).filter(Boolean);
  const dropped = entries.length ? (await Promise.all(entries.map(filesOf))).flat() : [...event.dataTransfer.files];
  const chosen = new DataTransfer();
  for (const file of dropped) chosen.items.add(new File([file], file.name));
  form.querySelector("input[type=file]").files = chosen.files;
});

// a message is read where it appears: at the top
document.addEventListener("htmx:afterSwap", (event) => {
  if (event.detail.target.id === "message") event.detail.target.scrollIntoView({ block: "nearest" });
});

// the live page: a stream of beats; without one for three beats, what is shown is stale
const live = document.querySelector("[data-live]");
if (live) {
  const state = document.querySelector("#live-state");
  const say = (text, kind) => {
    if (state.textContent === text) return;
    state.textContent = text;
    state.className = `chip ${kind}`;
    live.classList.toggle("stale", kind === "bad");
  };
  const watch = () => {
    const source = new EventSource(live.dataset.live);
    let timer;
    const lost = () => {
      clearTimeout(timer);
      source.close();
      say("stale: the server sends nothing", "bad");
      setTimeout(watch, 1000);
    };
    const expect = () => {
      clearTimeout(timer);
      timer = setTimeout(lost, 3 * Number(state.dataset.beatMs));
    };
    source.addEventListener("beat", (event) => {
      live.innerHTML = event.data;
      say("live", "good");
      expect();
    });
    source.addEventListener("error", lost);
    expect();
  };
  watch();
}
