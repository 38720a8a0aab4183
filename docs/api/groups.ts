import { DeclarationReflection, ReferenceReflection, ReferenceType, ReflectionKind, type Reflection } from 'typedoc';
import type { Entry } from './entries.js';
import { purposeOf } from './purposes.js';

/** Exports of one kind, grouped by purpose. */
export interface Group {
  readonly title: string;
  readonly purposes: readonly Purpose[];
}

interface Purpose {
  /** The heading; empty if there is only one purpose. */
  readonly title: string;
  readonly members: readonly DeclarationReflection[];
}

const sorts: Readonly<Record<string, (member: DeclarationReflection) => boolean>> = {
  Functions: isCallable,
  Values: (member) => member.kindOf(ReflectionKind.Variable) && !isCallable(member),
  Types: (member) => !member.kindOf([ReflectionKind.Function, ReflectionKind.Variable]) && !isError(member),
  Errors: isError,
};

/** Lists up to this length are not divided by purpose. */
const FEW = 8;

/** A purpose with fewer exports gets no heading. */
const ENOUGH = 3;

/** Returns the exports of an entry point, re-exports included, by kind and purpose: functions first, errors last. */
export function grouped(entry: Entry, module: Reflection | undefined): Group[] {
  const members = module instanceof DeclarationReflection ? (module.children ?? []).map(described) : [];
  const sorted = members.sort((one, other) => one.name.localeCompare(other.name, 'en'));
  return Object.entries(sorts)
    .map(([title, belongs]) => ({ title, purposes: byPurpose(entry, sorted.filter(belongs)) }))
    .filter(({ purposes }) => purposes.length > 0);
}

/** Returns the declaration behind a re-export. */
function described(member: DeclarationReflection): DeclarationReflection {
  const target = member instanceof ReferenceReflection ? member.getTargetReflectionDeep() : member;
  return target instanceof DeclarationReflection ? target : member;
}

function byPurpose(entry: Entry, members: readonly DeclarationReflection[]): Purpose[] {
  const byTitle = new Map<string, DeclarationReflection[]>();
  for (const member of members) {
    const title = purposeOf(entry, member);
    byTitle.set(title, [...(byTitle.get(title) ?? []), member]);
  }
  const named = [...byTitle]
    .map(([title, those]) => ({ title, members: those }))
    .filter((purpose) => members.length > FEW && purpose.members.length >= ENOUGH)
    .sort((one, other) => one.title.localeCompare(other.title, 'en'));
  const others = members.filter((member) => !named.some((purpose) => purpose.members.includes(member)));
  const rest = others.length > 0 ? [{ title: named.length > 0 ? 'More' : '', members: others }] : [];
  return [...named, ...rest];
}

function isCallable({ kind, type }: DeclarationReflection): boolean {
  if (kind === ReflectionKind.Function) return true;
  const declared = kind === ReflectionKind.Variable && type instanceof ReferenceType ? type.reflection : undefined;
  return declared instanceof DeclarationReflection && declared.signatures !== undefined;
}

function isError(member: DeclarationReflection): boolean {
  return member.kindOf(ReflectionKind.Class) && member.name.endsWith('Error');
}
