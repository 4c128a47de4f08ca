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

// a message is read where it appears: at the top
document.addEventListener("htmx:afterSwap", (event) => {
  if (event.detail.target.id === "message") event.detail.target.scrollIntoView({ block: "nearest" });
});
