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

// on a phone, the current page's name may be outside of the row of links
document.querySelector(".top nav [aria-current]")?.scrollIntoView({ inline: "center", block: "nearest" });

// a message is read where it appears: at the top
document.addEventListener("htmx:afterSwap", (event) => {
  if (event.detail.target.id === "message") event.detail.target.scrollIntoView({ block: "nearest" });
});

// scoring a file: the response is a stream of events, and has the result at its end
const events = async function* (response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let waiting = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const parts = (waiting + value).split("\n\n");
    waiting = parts.pop();
    for (const part of parts) {
      const [, name, data] = part.match(/^event: (\w+)\ndata: (.*)$/);
      yield [name, JSON.parse(data)];
    }
  }
};

const saved = ({ name, type, content }) => {
  const bytes = Uint8Array.from(atob(content), (letter) => letter.charCodeAt(0));
  const link = document.createElement("a");
  Object.assign(link, { className: "button", download: name, textContent: `Download ${name}` });
  link.href = URL.createObjectURL(new Blob([bytes], { type }));
  return link;
};

const scoreFile = async (form, signal) => {
  const result = document.querySelector("#score-result");
  const progress = form.querySelector("progress");
  const state = form.querySelector("[data-progress] span");
  const body = new FormData(form);
  body.append("file", document.querySelector("#score-file input[type=file]").files[0]);
  const headers = { ...JSON.parse(document.body.getAttribute("hx-headers") ?? "{}"), "HX-Request": "true" };
  result.replaceChildren();
  const response = await fetch(form.dataset.score, { method: "POST", body, headers, signal });
  if (!response.headers.get("Content-Type").startsWith("text/event-stream")) {
    const message = document.querySelector("#message");
    message.innerHTML = await response.text();
    message.scrollIntoView({ block: "nearest" });
    return "";
  }
  for await (const [name, data] of events(response)) {
    if (name === "progress") {
      progress.value = data.rows;
      state.textContent = `${data.rows.toLocaleString("en")} of ${Number(form.dataset.rows).toLocaleString("en")} rows`;
    }
    if (name === "refused") return data.detail;
    if (name === "result") {
      result.innerHTML = data.html;
      result.querySelector("[data-downloads]").append(...data.files.map(saved));
      result.scrollIntoView({ block: "start" });
      return "";
    }
  }
  return "the stream ended early: send the file again";
};

on("submit", "[data-score]", async (form, event) => {
  event.preventDefault();
  const abort = new AbortController();
  const stop = form.querySelector("[data-stop]");
  const submit = form.querySelector("[type=submit]");
  const row = form.querySelector("[data-progress]");
  stop.onclick = () => abort.abort();
  submit.disabled = true;
  stop.hidden = row.hidden = false;
  let problem;
  try {
    problem = await scoreFile(form, abort.signal);
  } catch (error) {
    problem = error.name === "AbortError" ? "stopped" : "the server does not answer";
  }
  submit.disabled = false;
  stop.hidden = true;
  row.hidden = !problem;
  row.querySelector("span").textContent = problem;
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
