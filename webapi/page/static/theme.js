// Light or dark: as the system has it, or as the user chooses.

import { say } from "./dom.js";

const NAME = "stoker.theme";
const THEMES = ["auto", "light", "dark"];

export function startTheme(button) {
  let theme = localStorage.getItem(NAME) ?? "auto";
  const apply = () => {
    document.documentElement.dataset.theme = theme;
    say(button, `Theme: ${theme}`);
  };
  button.addEventListener("click", () => {
    theme = THEMES[(THEMES.indexOf(theme) + 1) % THEMES.length];
    localStorage.setItem(NAME, theme);
    apply();
  });
  apply();
}
