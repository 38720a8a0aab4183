// Generates docs/reference/api from the doc comments of the sources: a page per export, an index per entry point, and
// contents.json, from which the sidebar is made.
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { Application, Converter, type ProjectReflection } from 'typedoc';
import type { PluginOptions } from 'typedoc-plugin-markdown';
import type { ApiContents } from '../.vitepress/api-contents.js';
import { repository } from '../.vitepress/links.js';
import { allEntries, root } from './entries.js';
import { allExamples } from './examples.js';
import { grouped } from './groups.js';
import { readParameters } from './parameters.js';
import { defineReference } from './theme.js';
import { listThrows } from './throws.js';

const entries = allEntries();
const folder = join(root, 'docs', 'reference', 'api');

const markdown: Partial<PluginOptions> = {
  entryFileName: 'index',
  hidePageHeader: true,
  pageTitleTemplates: {
    module: ({ name }) => entries.find((entry) => entry.name === name)?.specifier ?? name,
    member: ({ name }) => name,
  },
  parametersFormat: 'table',
  interfacePropertiesFormat: 'table',
  expandParameters: true,
  useCodeBlocks: true,
  sanitizeComments: true,
};

const app = await Application.bootstrapWithPlugins({
  name: 'API',
  outputs: [{ name: 'markdown', path: folder }],
  // An export gets its page at the first of these that has it. `peftjs` is last, as it only re-exports.
  entryPoints: [...entries].reverse().map(({ source }) => join(root, source)),
  tsconfig: join(root, 'tsconfig.json'),
  plugin: ['typedoc-plugin-markdown'],
  router: 'member',
  theme: 'reference',
  readme: 'none',
  sort: ['required-first', 'source-order'],
  basePath: root,
  disableGit: true,
  sourceLinkTemplate: `${repository}/blob/main/packages/{path}#L{line}`,
  skipErrorChecking: true,
  excludeExternals: true,
  excludeInternal: true,
  ...markdown,
});
// 'packages/core/src/nn' is 'core/nn'.
app.converter.on(Converter.EVENT_CREATE_DECLARATION, (_, reflection) => {
  if (reflection.parent?.isProject()) reflection.name = reflection.name.replace(/^packages\/|\/src/g, '');
});
listThrows(app);
defineReference(app, { entries, examples: allExamples(), defaults: readParameters(app) });
app.renderer.postRenderAsyncJobs.push(({ project }) =>
  writeFile(join(folder, 'contents.json'), JSON.stringify(contentsOf(project))),
);
const project = await app.convert();
if (project) await app.generateOutputs(project);
if (!project || app.logger.hasErrors() || app.logger.hasWarnings()) process.exitCode = 1;

/** Returns the content of the sidebar. */
function contentsOf(project: ProjectReflection): ApiContents {
  return entries.map((entry) => ({
    text: entry.specifier,
    folder: entry.name,
    groups: grouped(entry, project.getChildByName([entry.name])).map(({ title, purposes }) => ({
      text: title,
      items: purposes
        .flatMap(({ members }) => members)
        .map((member) => ({ text: member.name, page: app.renderer.router?.getFullUrl(member) ?? '' })),
    })),
  }));
}
