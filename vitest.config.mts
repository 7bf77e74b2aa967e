import { defineConfig } from "vitest/config";

// One project per kind of test, so that `vitest run --project unit` needs no server and no kernel feature.
const project = (name: string, options: object = {}) => ({
  test: {
    name,
    include: [`__test__/${name}/**/*.test.ts`],
    testTimeout: 30_000,
    hookTimeout: 60_000,
    // The package is CommonJS and is tested as Node loads it, not as a bundler would rewrite it.
    server: { deps: { external: [/\/(index|binding)\.m?js$/, /\/lib\/[^/]+\.js$/] } },
    ...options,
  },
});

export default defineConfig({
  test: {
    passWithNoTests: false,
    projects: [
      project("unit"),
      project("e2e"),
      // Tests that count the processes, mounts and cgroups of the machine must not see those of their neighbours.
      project("process", { testTimeout: 180_000, fileParallelism: false, sequence: { groupOrder: 1 } }),
      project("conformance", { testTimeout: 60_000 }),
      {
        test: {
          name: "types",
          include: [],
          typecheck: {
            enabled: true,
            only: true,
            include: ["__test__/types/**/*.test-d.ts"],
            tsconfig: "./tsconfig.json",
          },
        },
      },
    ],
  },
});
