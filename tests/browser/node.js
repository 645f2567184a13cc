// Print what an EventSource of this URL receives, one JSON document per line: node node.js URL
import { EventSource } from "eventsource";
import { follow } from "./follow.js";

follow(EventSource, process.argv[2], {}, (seen) => console.log(JSON.stringify(seen)));
