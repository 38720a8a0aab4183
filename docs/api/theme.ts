import { ReflectionKind, type Application, type ParameterReflection, type Reflection, type Renderer } from 'typedoc';
import {
  MarkdownTheme,
  MarkdownThemeContext,
  type MarkdownPageEvent,
  type MarkdownRenderer,
} from 'typedoc-plugin-markdown';
import { firstSentence } from '../.vitepress/sentence.js';
import type { Entry } from './entries.js';
import { exampleOf, type Example } from './examples.js';
import { configurationOf, optionsIn } from './fields.js';
import { grouped } from './groups.js';
import type { Defaults } from './parameters.js';
import { entriesTable, fieldsTable, indexOf, summaryOf } from './tables.js';

/** What the pages contain in addition to TypeDoc's reflections. */
export interface Material {
  readonly entries: readonly Entry[];
  readonly examples: readonly Example[];
  readonly defaults: ReadonlyMap<ParameterReflection, Defaults>;
}

/** The parts of the plugin's pages that are replaced. */
type Ours = 'body' | 'breadcrumbs' | 'declaration' | 'parametersTable' | 'propertiesTable' | 'sources';

/** Defines the theme: the plugin's pages with indexes by purpose, tables of options, and examples from the docs. */
export function defineReference(app: Application, material: Material): void {
  const { markdownHooks } = app.renderer as MarkdownRenderer;
  markdownHooks.on('page.begin', (context) => frontmatter(context, material));
  markdownHooks.on('index.page.begin', () => '---\neditLink: false\n---');
  markdownHooks.on('content.begin', ({ page }) => opening(page.model, material));
  markdownHooks.on('content.end', ({ page }) => example(page.model, material));
  app.renderer.defineTheme('reference', referenceTheme(material));
}

function referenceTheme(material: Material): new (renderer: Renderer) => MarkdownTheme {
  return class extends MarkdownTheme {
    override getRenderContext(page: MarkdownPageEvent<Reflection>): MarkdownThemeContext {
      return referenceContext(new MarkdownThemeContext(this, page, this.application.options), material);
    }
  };
}

function referenceContext(context: MarkdownThemeContext, { entries, defaults }: Material): MarkdownThemeContext {
  const { body, declaration, parametersTable, sources } = context.partials;
  const withOptions = (parameter: ParameterReflection) => {
    const fields = optionsIn(parameter.type);
    const table = () => fieldsTable(context, fields, { defaults: defaults.get(parameter) });
    return fields.length > 0 ? [`### \`${parameter.name}\``, table()] : [];
  };
  const ours: Pick<typeof context.partials, Ours> = {
    body: (model, options) => {
      const entry = entryOf(model, entries);
      if (entry) return indexOf(context, grouped(entry, model));
      return model.kindOf(ReflectionKind.Project) ? entriesTable(entries) : body(model, options);
    },
    breadcrumbs: () => {
      const { model, project } = context.page;
      const above = entryOf(model.parent, entries);
      const links = [`[API](${context.urlTo(project)})`];
      if (above && model.parent) links.push(`[${above.specifier}](${context.urlTo(model.parent)})`);
      return model.isProject() ? '' : links.join(' / ');
    },
    declaration: (model, options) => {
      const fields = configurationOf(model);
      return [
        declaration(model, options),
        ...(fields.length > 0 ? ['## Options', fieldsTable(context, fields)] : []),
      ].join('\n\n');
    },
    parametersTable: (model) => {
      const ofFunction = model[0]?.parent?.parent.kindOf(ReflectionKind.Function);
      return [parametersTable(model), ...(ofFunction ? model.flatMap(withOptions) : [])].join('\n\n');
    },
    propertiesTable: (model) =>
      fieldsTable(context, context.helpers.getFlattenedDeclarations(model), { anchors: true }),
    // Links the source once per page, not for each member.
    sources: (model, options) =>
      model === context.page.model || model.parent?.kindOf(ReflectionKind.Function) ? sources(model, options) : '',
  };
  Object.assign(context.partials, ours);
  return context;
}

/** Generated pages have no edit link. The description is shown in search results and llms.txt. */
function frontmatter(context: MarkdownThemeContext, { entries }: Material): string {
  const { model } = context.page;
  const said = entryOf(model, entries)?.description ?? (model.isDeclaration() ? summaryOf(context, model) : '');
  return ['---', 'editLink: false', `description: ${JSON.stringify(firstSentence(said))}`, '---'].join('\n');
}

/** Returns the text below the title: an entry point's description, or the import of an export. */
function opening(model: Reflection, { entries }: Material): string {
  const entry = entryOf(model, entries);
  if (entry) return entry.description;
  const from = entryOf(model.parent, entries);
  if (!from) return '';
  const type = model.kindOf([ReflectionKind.Interface, ReflectionKind.TypeAlias]) ? 'type ' : '';
  return `\`\`\`ts\nimport { ${type}${model.name} } from '${from.specifier}';\n\`\`\``;
}

/** Returns an example of an export from the docs. */
function example(model: Reflection, { examples }: Material): string {
  if (!model.kindOf([ReflectionKind.Function, ReflectionKind.Variable])) return '';
  const found = exampleOf(model.name, examples);
  return found ? `## In use\n\n\`\`\`ts\n${found.code}\`\`\`\n\nFrom [${found.title}](${found.link}).` : '';
}

function entryOf(model: Reflection | undefined, entries: readonly Entry[]): Entry | undefined {
  return model?.kindOf(ReflectionKind.Module) ? entries.find(({ name }) => name === model.name) : undefined;
}
