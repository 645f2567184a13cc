// node node.js URL: prints what an EventSource sees there, a JSON document a line.
import { EventSource } from "eventsource";
import { follow } from "./follow.js";

follow(EventSource, process.argv[2], {}, (seen) => console.log(JSON.stringify(seen)));
