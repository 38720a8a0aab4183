import type { DeclarationReflection } from 'typedoc';
import type { MarkdownThemeContext } from 'typedoc-plugin-markdown';
import { firstSentence } from '../.vitepress/sentence.js';
import type { Entry } from './entries.js';
import type { Group } from './groups.js';
import type { Defaults } from './parameters.js';

/** Returns the table of all entry points. */
export function entriesTable(entries: readonly Entry[]): string {
  return table(
    ['Import', 'What it holds'],
    entries.map(({ specifier, name, description }) => [`[${specifier}](${name}/index.md)`, description]),
  );
}

/** Returns the table of an entry point's exports. */
export function indexOf(context: MarkdownThemeContext, groups: readonly Group[]): string {
  const rows = (members: readonly DeclarationReflection[]) =>
    members.map((member) => [`[${member.name}](${context.urlTo(member)})`, firstSentence(summaryOf(context, member))]);
  const parts = groups.flatMap(({ title: sort, purposes }) => [
    `## ${sort}`,
    ...purposes.flatMap(({ title, members }) => [
      ...(title === '' ? [] : [`### ${title}`]),
      table(['Name', 'What it is'], rows(members)),
    ]),
  ]);
  return parts.join('\n\n');
}

/** Returns the first paragraph of a declaration's doc comment. */
export function summaryOf({ helpers }: MarkdownThemeContext, member: DeclarationReflection): string {
  const comment = member.comment ?? member.signatures?.[0]?.comment;
  return comment ? (helpers.getCommentParts(comment.summary).split('\n\n', 1)[0] ?? '') : '';
}

/** Returns the table of properties or options. Types are below the names, so that descriptions fit on a phone. */
export function fieldsTable(
  { partials, router }: MarkdownThemeContext,
  fields: readonly DeclarationReflection[],
  { defaults, anchors = false }: { defaults?: Defaults | undefined; anchors?: boolean } = {},
): string {
  const rows = fields.map((field) => {
    const comment = field.comment ?? field.signatures?.[0]?.comment;
    const said = comment ? partials.comment(comment, { isTableColumn: true }) : '';
    const type = field.type ? partials.someType(field.type) : partials.functionType(field.signatures ?? []);
    const anchor = anchors && router.hasUrl(field) ? `<a id="${router.getAnchor(field) ?? ''}"></a> ` : '';
    const name = `${anchor}\`${field.name}${field.flags.isOptional ? '?' : ''}\``;
    return [`${name}<br>${type.replace(/^\s*\\\| /, '')}`, withDefault(said, defaults?.get(field.name))];
  });
  return table(['Name and type', 'Description'], rows);
}

/** Adds the default from the source, unless the description already states one. */
function withDefault(description: string, value: string | undefined): string {
  return value === undefined || /\bDefault\b/.test(description) ? description : `${description} Default \`${value}\`.`;
}

function table(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const cell = (text: string) =>
    text
      .replace(/(?<!\\)\|/g, '\\|')
      .replace(/\s+/g, ' ')
      .trim();
  const line = (cells: readonly string[]) => `| ${cells.map(cell).join(' | ')} |`;
  return [line(head), line(head.map(() => '---')), ...rows.map(line)].join('\n');
}
