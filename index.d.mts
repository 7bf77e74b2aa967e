export * from "./index.js";

import * as sandwire from "./index.js";
export default sandwire;
