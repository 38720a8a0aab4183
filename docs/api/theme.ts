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

/** What pages are made of beside TypeDoc's reflections. */
export interface Material {
  readonly entries: readonly Entry[];
  readonly examples: readonly Example[];
  readonly defaults: ReadonlyMap<ParameterReflection, Defaults>;
}

/** The parts of the plugin's pages that we have in their own way. */
type Ours = 'body' | 'breadcrumbs' | 'declaration' | 'parametersTable' | 'propertiesTable' | 'sources';

/** Defines the theme: the plugin's pages, with indexes by purpose, tables of options, and examples of our own. */
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
    // The source of the page, not of each of its parts.
    sources: (model, options) =>
      model === context.page.model || model.parent?.kindOf(ReflectionKind.Function) ? sources(model, options) : '',
  };
  Object.assign(context.partials, ours);
  return context;
}

/** The page has no source to edit; what it says first stands beside its link elsewhere. */
function frontmatter(context: MarkdownThemeContext, { entries }: Material): string {
  const { model } = context.page;
  const said = entryOf(model, entries)?.description ?? (model.isDeclaration() ? summaryOf(context, model) : '');
  return ['---', 'editLink: false', `description: ${JSON.stringify(firstSentence(said))}`, '---'].join('\n');
}

/** What stands below the title: what an entry holds, or how an export is imported. */
function opening(model: Reflection, { entries }: Material): string {
  const entry = entryOf(model, entries);
  if (entry) return entry.description;
  const from = entryOf(model.parent, entries);
  if (!from) return '';
  const type = model.kindOf([ReflectionKind.Interface, ReflectionKind.TypeAlias]) ? 'type ' : '';
  return `\`\`\`ts\nimport { ${type}${model.name} } from '${from.specifier}';\n\`\`\``;
}

/** Where an export is used. */
function example(model: Reflection, { examples }: Material): string {
  if (!model.kindOf([ReflectionKind.Function, ReflectionKind.Variable])) return '';
  const found = exampleOf(model.name, examples);
  return found ? `## In use\n\n\`\`\`ts\n${found.code}\`\`\`\n\nFrom [${found.title}](${found.link}).` : '';
}

function entryOf(model: Reflection | undefined, entries: readonly Entry[]): Entry | undefined {
  return model?.kindOf(ReflectionKind.Module) ? entries.find(({ name }) => name === model.name) : undefined;
}
