// The platform this machine is, under the name that the napi CLI and the directories of npm/ use for it.

import { StepError } from "./step.mjs";

const isMusl = () => process.platform === "linux" && !process.report.getReport().header.glibcVersionRuntime;

/** For example `linux-x64-gnu`. */
export function platformName() {
  const { platform, arch } = process;
  if (platform === "linux") return `linux-${arch}-${isMusl() ? "musl" : "gnu"}`;
  if (platform === "win32") return `win32-${arch}-msvc`;
  if (platform === "darwin") return `darwin-${arch}`;
  throw new StepError(`there is no package for ${platform}-${arch}`);
}
