"""The words by which retry detection knows a correction, a thanks or a wish for one more.

Data, by language, phrases divided by slashes: a team adds its own. ``markers.py`` says how they
are matched.
"""

from collections.abc import Mapping, Sequence
from enum import StrEnum


class Marker(StrEnum):
    """What the head of a turn says."""

    CORRECTION = "correction"
    """The answer was wrong, or not what was asked: unmistakable."""

    DENIAL = "denial"
    """A bare no: of the answer, or to a question that it ended with."""

    POLITE = "polite"
    """Begins like a denial, and is none."""

    VARIETY = "variety"
    """The person wants one more: the main false friend of a retry."""

    THANKS = "thanks"
    """The answer was good."""

    CONSTRAINT = "constraint"
    """A wish for the same in another form: shorter, in German. Anywhere in the turn."""


Phrases = Mapping[str, Sequence[str]]
Markers = Mapping[Marker, Phrases]


def _phrases(**by_language: str) -> Phrases:
    return {language: text.split(" / ") for language, text in by_language.items()}


MARKERS: Markers = {
    Marker.CORRECTION: _phrases(
        en="wrong / incorrect / not correct / not right / not true / false / that's wrong / "
        "that is wrong / this is wrong / it's wrong / that's incorrect / that is incorrect / "
        "this is incorrect / that's false / that's not / that is not / that isn't / "
        "this is not / this isn't / it's not / that was not / that wasn't / that doesn't / "
        "that does not / that didn't / this doesn't / this does not / it doesn't work / "
        "it does not work / doesn't work / does not work / didn't work / not working / "
        "not what i / i meant / i asked / i was asking / i wanted / i said / i told you / "
        "i didn't ask / i did not ask / i didn't mean / you misunderstood / you misread / "
        "you got it wrong / you got that wrong / you made a mistake / you made an error / "
        "you made that up / you're wrong / you are wrong / you missed / you forgot / "
        "you ignored / you didn't / you did not / you haven't / you still / try again / "
        "please try again / try harder / do it again / again / re-read / read it again / "
        "still wrong / still not / still doesn't / still incorrect / no i / no it / no that / "
        "no this / no not / no you / no the / nope that",
        de="falsch / das ist falsch / leider falsch / das stimmt nicht / stimmt nicht / "
        "stimmt so nicht / nicht richtig / nicht korrekt / das ist nicht / das war nicht / "
        "ist nicht das / das funktioniert nicht / funktioniert nicht / klappt nicht / "
        "geht nicht / nicht das / ich meinte / ich wollte / ich habe gefragt / "
        "ich hatte gefragt / ich habe nach / danach habe ich nicht / noch mal / nochmal / "
        "noch einmal / versuch es noch / versuche es noch / versuchs noch / immer noch falsch / "
        "immer noch nicht / du hast mich falsch / du hast dich / du hast nicht / "
        "du hast vergessen / du hast die / da ist ein fehler",
        fr="faux / c'est faux / ce n'est pas / c'est pas / ce n'était pas / "
        "ça ne marche pas / ça marche pas / cela ne fonctionne pas / pas ce que / je voulais / "
        "je parlais / je veux dire / j'ai demandé / j'avais demandé / je t'ai demandé / "
        "je vous ai demandé / réessaie / réessayez / essaie encore / recommence / encore faux / "
        "toujours pas / toujours faux / incorrect / vous vous trompez / tu te trompes / "
        "tu t'es trompé / tu as oublié / tu n'as pas / vous n'avez pas",
        es="incorrecto / falso / está mal / eso está mal / eso no / esto no / no es lo que / "
        "no es correcto / no es eso / no funciona / no me refería / me refería / quise decir / "
        "quería decir / pregunté / te pregunté / te pedí / inténtalo de nuevo / "
        "intenta de nuevo / otra vez mal / sigue mal / sigue sin / te equivocas / "
        "te equivocaste / te has equivocado / te olvidaste / has olvidado",
        it="sbagliato / è sbagliato / non è quello / non è corretto / non è giusto / "
        "non funziona / intendevo / volevo dire / ho chiesto / riprova / hai sbagliato / "
        "hai dimenticato",
        pt="errado / está errado / isso está errado / não é isso / não era isso / "
        "não está certo / não funciona / eu quis dizer / quis dizer / eu perguntei / "
        "tente de novo / tente novamente / você errou / você esqueceu",
        zh="不对 / 不是这个 / 不是这样 / 不是我 / 这不是 / 这不对 / 错了 / 答错 / 你错了 / "
        "你搞错 / 你理解错 / 我的意思是 / 我是说 / 我问的是 / 我要的是 / 重新 / 再试一次 / "
        "还是不对 / 还是错",
        ja="違う / 違います / ちがう / ちがいます / 間違 / それは違 / そうではなく / "
        "そうじゃなく / そうではありません / もう一度 / やり直 / 私が聞 / 聞いているのは / "
        "まだ違 / 正しくない / 正しくありません",
    ),
    Marker.DENIAL: _phrases(
        en="no / nope / nah",
        de="nein / nee / nö",
        fr="non",
        es="no",
        it="no",
        pt="não",
        zh="不",
        ja="いいえ / いや",
    ),
    Marker.POLITE: _phrases(
        en="no problem / no worries / no thanks / no thank you / no, thanks / no, thank you / "
        "no, that's all / no, that's it / no, that is all / no, that's fine / no, it's fine / "
        "no more questions / no further questions / no need / nope, that's all / nope, thanks",
        de="nein danke / nein, danke / nein, das war alles / nein, das ist alles / nein, alles gut",
        fr="non merci / non, merci / non, c'est tout / non, c'est bon",
        es="no gracias / no, gracias / no, eso es todo / no, nada más / no hay problema",
        it="no grazie / no, grazie / no, è tutto",
        pt="não obrigado / não, obrigado / não obrigada / não, obrigada / não, é só isso",
        zh="不用 / 不客气 / 不,谢谢",
        ja="いいえ,結構 / いいえ,大丈夫 / いいえ,ありがとう",
    ),
    Marker.VARIETY: _phrases(
        en="another / one more / a few more / some more / any more / more / a different / "
        "different / something else / something different / other options / other ideas / "
        "other examples / other suggestions / any other / any others / alternatives / next / "
        "next one / what else",
        de="noch ein / noch eine / noch einen / noch eins / noch mehr / mehr / weitere / "
        "ein anderes / eine andere / einen anderen / etwas anderes / andere ideen / "
        "andere vorschläge / weiter",
        fr="un autre / une autre / encore un / encore une / d'autres / plus d' / plus de / "
        "autre chose / quoi d'autre",
        es="otro / otra / otros / otras / uno más / una más / más / algo diferente / qué más",
        it="un altro / un'altra / ancora uno / ancora una / altri / altre",
        pt="outro / outra / mais um / mais uma / mais",
        zh="再来 / 再给 / 再讲 / 再说一个 / 再写一 / 换一个 / 换个 / 另一个 / 还有",
        ja="別の / 他の / もう一つ / もうひとつ / もっと / ほかの",
    ),
    Marker.THANKS: _phrases(
        en="thanks / thank you / thank u / many thanks / thx / ty / cheers / perfect / "
        "that's perfect / great / that's great / this is great / awesome / excellent / "
        "brilliant / wonderful / amazing / love it / i love it / that works / it works / "
        "it worked / that worked / works / exactly / that's exactly / that's it / got it / "
        "nice / good job / well done / very helpful / that helps / that helped / super helpful",
        de="danke / dankeschön / vielen dank / besten dank / tausend dank / perfekt / super / "
        "prima / genau / klappt / funktioniert / hat geklappt / toll / sehr gut / "
        "ausgezeichnet / wunderbar / klasse",
        fr="merci / je te remercie / je vous remercie / parfait / super / génial / "
        "exactement / ça marche / excellent / très bien / c'est parfait",
        es="gracias / muchas gracias / perfecto / genial / excelente / exacto / estupendo / "
        "funciona / muy bien / qué bien",
        it="grazie / perfetto / ottimo / esatto / funziona / benissimo",
        pt="obrigado / obrigada / muito obrigado / perfeito / ótimo / funcionou",
        zh="谢谢 / 多谢 / 感谢 / 太好了 / 太棒了 / 完美 / 很好 / 明白了 / 懂了",
        ja="ありがとう / 完璧 / 助かり / いいね / 素晴らしい / なるほど / 分かりました",
    ),
    Marker.CONSTRAINT: _phrases(
        en="shorter / longer / simpler / funnier / more formal / less formal / more detail / "
        "more details / more detailed / in more detail / in one sentence / in bullet points / "
        "as a list / as a table / as json / as a poem / step by step / in english / in german / "
        "in french / in spanish / in italian / in chinese / in japanese / for kids / "
        "for a child / for beginners",
        de="kürzer / länger / einfacher / formeller / ausführlicher / als tabelle / "
        "als liste / auf deutsch / auf englisch / auf französisch / in stichpunkten / "
        "in einem satz",
        fr="plus court / plus courte / plus long / plus simple / plus formel / "
        "plus détaillé / en une phrase / en anglais / en allemand / en français / sous forme de",
        es="más corto / más corta / más largo / más simple / más formal / más detallado / "
        "en una frase / en inglés / en alemán / en español / como una lista / como tabla",
        it="più corto / più breve / più lungo / più semplice / in inglese",
        pt="mais curto / mais longo / mais simples / em inglês / em uma frase",
        zh="短一点 / 长一点 / 简短 / 简单一点 / 用英文 / 用中文 / 列表 / 表格",
        ja="短く / 長く / 簡単に / 英語で / 日本語で / 箇条書き / 表で",
    ),
}

FILLERS = _phrases(
    en="well / sorry / actually / wait / hmm / hm / um / uh / oh / ok / okay / but / and / "
    "hey / please / sadly / unfortunately / i'm afraid / i think / yes / yeah",
    de="also / sorry / moment / ähm / hm / hmm / ok / aber / bitte / leider / ja",
    fr="alors / désolé / désolée / attends / euh / ok / mais / bon / oui / hmm",
    es="pues / perdón / perdona / espera / eh / ok / pero / bueno / sí / hmm",
    it="allora / scusa / aspetta / ma / ok / sì",
    pt="então / desculpe / espera / mas / ok / sim",
    zh="嗯 / 那个 / 抱歉 / 对不起 / 可是 / 但是 / 但",
    ja="えっと / すみません / でも / あの",
)
"""Words at the head of a turn that say nothing."""

BUTS = ("but", "however", "aber", "jedoch", "mais", "pero", "però", "mas")
"""Words after which the opposite of what was said may follow: "Thanks, but that's wrong"."""

_MANNER = (
    "a an the this that these those some any all my your our his her its their me you us i we it "
    "is are was were be been do does did can could should would will shall may might must have "
    "has had how what whats which who whom whose when where why if so as at by for from in into "
    "of on onto to with without about over between and or but not no please just really very "
    "more most less much many good better best nice great easy easier simple simpler quick "
    "quicker short clear fast right correct proper way ways thing things give make write tell "
    "show explain describe get need want know help find use create der die das den dem des ein "
    "eine einen einem einer ist sind war wie wer wo wann warum kann könnte soll sollte mein dein "
    "und oder aber nicht bitte mit ohne für von zu im am auf aus bei über mir mich dir dich ich "
    "du er sie es wir ihr man gut besser beste einfach schnell kurz genau mach schreib zeig "
    "erklär erkläre sag gib le la les un une de est sont était comment que quoi qui où quand "
    "pourquoi peut peux pourrait mon ma mes ton ta tes et ou mais pas sans avec pour par dans "
    "sur sous au aux te se je tu il elle nous vous bien mieux meilleur vite court donne fais "
    "écris dis el los las una unos unas del son era cómo qué quién dónde cuándo puede puedo "
    "podría mi su y o pero sin con para por en sobre al yo él ella nosotros mejor fácil rápido "
    "corto da haz escribe di explica 的 了 吗 呢 吧 是 在 有 和 与 我 你 他 她 它 们 这 那 怎 么 "
    "什 请 给 把 被 能 可 以 要 会 は が を に で と も の へ か ね よ な い う え お る た て "
    "し す ま"
)
MANNER = frozenset(_MANNER.split())
"""Function words and manner: exchanged for each other, the subject stays the same."""
