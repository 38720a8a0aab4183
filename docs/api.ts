// Writes docs/reference/api: one page for every entry of every package, made of the sources' documentation comments.
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Application, Converter } from 'typedoc';
import type { PluginOptions } from 'typedoc-plugin-markdown';

const root = fileURLToPath(new URL('..', import.meta.url));
const packages = join(root, 'packages');

/** The sources of a package's entries. */
function entriesOf(name: string): string[] {
  const { exports } = JSON.parse(readFileSync(join(packages, name, 'package.json'), 'utf8')) as {
    readonly exports: Readonly<Record<string, string | { readonly '@peftjs/source': string }>>;
  };
  return Object.values(exports).flatMap((target) =>
    typeof target === 'string' ? [] : [join(packages, name, target['@peftjs/source'])],
  );
}

/** What `peftjs` exports is described where it comes from: the first entry that has a name is the one that describes it. */
const inOrder = [...readdirSync(packages).filter((name) => name !== 'peftjs'), 'peftjs'];

const markdown: Partial<PluginOptions> = {
  entryFileName: 'index',
  hidePageHeader: true,
  hideBreadcrumbs: true,
  pageTitleTemplates: { module: ({ name }) => (name === 'peftjs' ? name : `@peftjs/${name}`) },
  parametersFormat: 'table',
  interfacePropertiesFormat: 'table',
  tableColumnSettings: { hideModifiers: true, hideInherited: true },
  useCodeBlocks: true,
  sanitizeComments: true,
};

const app = await Application.bootstrapWithPlugins({
  name: 'API',
  outputs: [{ name: 'markdown', path: join(root, 'docs', 'reference', 'api') }],
  entryPoints: inOrder.flatMap(entriesOf),
  tsconfig: join(root, 'tsconfig.json'),
  plugin: ['typedoc-plugin-markdown'],
  router: 'module',
  readme: 'none',
  disableSources: true,
  skipErrorChecking: true,
  excludeExternals: true,
  excludeInternal: true,
  ...markdown,
});
// 'core/src/nn' is '@peftjs/core/nn'.
app.converter.on(Converter.EVENT_CREATE_DECLARATION, (_, reflection) => {
  if (reflection.parent?.isProject()) reflection.name = reflection.name.replace('/src', '');
});
const project = await app.convert();
if (project) await app.generateOutputs(project);
if (!project || app.logger.hasErrors() || app.logger.hasWarnings()) process.exitCode = 1;
