import { names, readJson, type Tree } from '@nx/devkit';
import ts from 'typescript';

/** An invalid name of a method; nx prints the message. */
class NameError extends Error {
  override readonly name = 'NameError';
}

/** The names of a new method in different places. */
export interface MethodNames {
  /** The name on the command line and in packages/, e.g. `my-method`. */
  readonly name: string;
  /** The name of the export, e.g. `myMethod`. */
  readonly exportName: string;
  /** The start of type names, e.g. `MyMethod`. */
  readonly typeName: string;
}

/** Words that TypeScript scans as identifiers, but that modules must not bind. */
const UNBINDABLE: readonly string[] = ['arguments', 'await', 'eval'];

/**
 * Derives the names of a new method.
 * @throws NameError if the name is invalid, is a reserved word of JavaScript, or is already used by a package, a method
 * or a page.
 */
export function methodNames(tree: Tree, name: string): MethodNames {
  if (!/^[a-z][a-z0-9]*(-[a-z0-9]+)*$/.test(name)) {
    throw new NameError(
      `'${name}' is not a valid method name; use lower-case letters, digits and single hyphens, e.g. 'my-method'`,
    );
  }
  const { propertyName, className } = names(name);
  if (isReserved(propertyName)) {
    throw new NameError(`'${name}' is a reserved word of JavaScript and cannot be exported; choose another name`);
  }
  const owner = ownerOf(tree, name);
  if (owner !== undefined) throw new NameError(`'${name}' is already used by ${owner}; choose another name`);
  return { name, exportName: propertyName, typeName: className };
}

function isReserved(word: string): boolean {
  const scanner = ts.createScanner(ts.ScriptTarget.Latest, true, ts.LanguageVariant.Standard, word);
  const kind = scanner.scan();
  const isKeyword = kind >= ts.SyntaxKind.FirstReservedWord && kind <= ts.SyntaxKind.LastFutureReservedWord;
  return isKeyword || UNBINDABLE.includes(word);
}

/** The owner of a name that is already in use; undefined if it is free. */
function ownerOf(tree: Tree, name: string): string | undefined {
  const workspaces = ['docs', 'examples', 'tests', 'tools'];
  const folders = [...tree.children('packages').map((folder) => `packages/${folder}`), ...workspaces];
  for (const folder of folders) {
    const manifest = `${folder}/package.json`;
    if (!tree.exists(manifest)) continue;
    const read = readJson<{ name: string; peft?: { methods: Record<string, string> } }>(tree, manifest);
    if (read.name === `@peftjs/${name}` || folder === `packages/${name}`) return folder;
    if (name in (read.peft?.methods ?? {})) return `a method of ${folder}`;
  }
  const page = `docs/methods/${name}.md`;
  return tree.exists(page) ? page : undefined;
}
