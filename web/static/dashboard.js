// What htmx leaves to us: opening and closing the dialog, and saying when Headwater does not answer.
(() => {
  "use strict";
  const dialog = document.getElementById("dialog");
  const body = document.getElementById("dialog-body");
  const connection = document.getElementById("connection");

  // A dialog's text was loaded: show it. It closes when the verb was taken, and on "keep it as it is".
  document.addEventListener("htmx:after:swap", (event) => {
    if (event.detail.ctx.target === body && !dialog.open) dialog.showModal();
  });
  document.addEventListener("headwater-changed", () => dialog.close());
  dialog.addEventListener("close", () => body.replaceChildren());
  dialog.addEventListener("click", (event) => {
    if (event.target === dialog || event.target.closest("[data-close]")) {
      event.preventDefault();
      dialog.close();
    }
  });

  // Buttons that are links answer the space bar as buttons do.
  document.addEventListener("keydown", (event) => {
    const button = event.key === " " && event.target.closest("a[role=button]");
    if (button) {
      event.preventDefault();
      button.click();
    }
  });

  // What was said of the form as it was sent is not true of the form as it is now.
  document.addEventListener("input", (event) => {
    if (event.target.form?.id === "launch") document.getElementById("problem")?.remove();
  });

  document.addEventListener("htmx:error", () => { connection.hidden = false; });
  document.addEventListener("htmx:after:request", (event) => {
    connection.hidden = true;
    const { sourceElement, response } = event.detail.ctx;
    if (sourceElement.id === "live" && response.status < 400) document.querySelector("#notices .bad")?.remove();
  });
})();
