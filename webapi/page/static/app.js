// The start of the page: its theme, its tabs, and a view behind each of them.

import { ChatView } from "./chat/view.js";
import { showNow } from "./floor/now.js";
import { FloorState } from "./floor/state.js";
import { FloorView } from "./floor/view.js";
import { JobsView } from "./jobs/view.js";
import { Tabs } from "./tabs.js";
import { startTheme } from "./theme.js";
import { VideoView } from "./video/view.js";

const VIEWS = { chat: ChatView, video: VideoView, jobs: JobsView, floor: FloorView };
const views = {};

startTheme(document.getElementById("theme"));
const floor = new FloorState();
floor.watch(showNow);
new Tabs((name, rest, before) => {
  if (before && before !== name) views[before]?.hide();
  const View = VIEWS[name];
  if (!View) return;
  views[name] ??= new View(document.getElementById(`view-${name}`), floor);
  views[name].show(rest);
});
