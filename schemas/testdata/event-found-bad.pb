
 01J00000000000000000000000.bad.1€Ð•ÿ¼1"01J00000000000000000000000(:acmeBacmeÚscannerêNp	*2
clamavmalware"Eicar-Test-Signature227400X`2
quarantine:malwareò01J0000000000000000000000Jø