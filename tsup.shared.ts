import { copyFile } from 'node:fs/promises';
import { defineConfig, type Options } from 'tsup';
import ts from 'typescript';

/**
 * How every package is built: ESM only, one chunk per entry, the licence, and declarations of the entries that are imported by others, with
 * maps to the sources, which the package holds.
 */
export const packageBuild = (entry: string[], imported = entry, more: Options = {}) =>
  defineConfig({
    entry,
    format: ['esm'],
    sourcemap: true,
    esbuildOptions(options) {
      options.sourcesContent = false; // the package holds the sources themselves
    },
    clean: true,
    target: 'node20',
    treeshake: true,
    async onSuccess() {
      declare(imported);
      await copyFile('../../LICENSE', 'LICENSE');
    },
    ...more,
  });

/** Writes the declarations of these modules, checked against the built packages. tsup's own `dts` takes five times as long. */
function declare(entry: string[]): void {
  const file = ts.readConfigFile('tsconfig.json', (path) => ts.sys.readFile(path));
  const { options } = ts.parseJsonConfigFileContent(file.config, ts.sys, '.', {
    noEmit: false,
    emitDeclarationOnly: true,
    declarationMap: true,
    customConditions: [],
    rootDir: 'src',
    outDir: 'dist',
  });
  const program = ts.createProgram(entry, options);
  const { diagnostics } = program.emit();
  const errors = [...ts.getPreEmitDiagnostics(program), ...diagnostics];
  if (errors.length === 0) return;
  throw new Error(
    ts.formatDiagnostics(errors, {
      getCanonicalFileName: (name) => name,
      getCurrentDirectory: () => '.',
      getNewLine: () => '\n',
    }),
  );
}
